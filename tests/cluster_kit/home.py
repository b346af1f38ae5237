"""Where everything of the test cluster lies, and how it talks to the person who waits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]  # of the checkout
KIT = Path(__file__).resolve().parent
CACHE = Path(
    os.environ.get("STRIPEDJOB_CACHE")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stripedjob"
)
BINARIES = CACHE / "bin"  # by content of their go.mod and go.sum
ARCHIVES = CACHE / "images"  # by content of what they are built from
STATE = CACHE / "cluster"  # of the one cluster that this machine may have; `down` removes it
LOGS = STATE / "logs"
RECORD = STATE / "cluster.json"
LOCK = CACHE / "cluster.lock"
TAIL_LINES = 20


class ClusterError(Exception):
    """Something failed; the message says what, and where its log is."""


class UnavailableError(ClusterError):
    """This machine cannot do it; the message says why."""


def say(words: str) -> None:
    print(f"==> {words}", file=sys.stderr, flush=True)


def tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join(lines[-TAIL_LINES:])


def run(
    argv: Sequence[str | Path],
    *,
    log: Path | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    seconds: float = 60,
    stdin: str | None = None,
) -> str:
    """Run a command to its end and return what it wrote; raises ClusterError with the end of its output."""
    try:
        done = subprocess.run(
            [str(one) for one in argv],
            env={**os.environ, **(env or {})},
            cwd=cwd,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except FileNotFoundError:
        raise UnavailableError(f"{argv[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise ClusterError(f"{argv[0]} {argv[1]} did not end within {seconds:.0f} s") from None
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(done.stdout + done.stderr)
    if done.returncode:
        words = "\n".join((done.stdout + done.stderr).splitlines()[-TAIL_LINES:])
        where = f" (log: {log})" if log else ""
        raise ClusterError(f"{' '.join(map(str, argv[:3]))} … failed with exit code {done.returncode}{where}\n{words}")
    return done.stdout
