"""Fetches what an adapter needs: pinned packages of npm or PyPI, into the cache, once for each pin.

Called by peer.py. Nothing of it comes into the project's own environment or lock.
"""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

CACHE = Path(os.environ.get("STRIPEDJOB_CACHE") or Path.home() / ".cache" / "stripedjob") / "peers"
SECONDS_MAX = 600.0


class MissingError(Exception):
    """A neighbour could not be fetched or started; the message says why."""


def fetch(folder: Path) -> Path:
    """Return the directory that holds what the adapter in `folder` has pinned, with the adapter's own files."""
    pins = folder / ("package-lock.json" if (folder / "package.json").exists() else "requirements.txt")
    target = CACHE / f"{folder.name}-{hashlib.sha256(pins.read_bytes()).hexdigest()[:12]}"
    if not target.exists():
        fresh = target.with_suffix(f".{os.getpid()}")
        fresh.mkdir(parents=True)
        try:
            _install(pins, fresh)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        fresh.rename(target)
    for script in (*folder.glob("*.mjs"), folder.parent / "gate.mjs"):
        shutil.copy(script, target)
    return target


def node(target: Path) -> Path:
    """Return the Node.js that came with the packages."""
    for found in target.glob("node_modules/node-*/bin/node"):
        return found
    raise MissingError(f"{target} has no Node.js for this machine")


def _install(pins: Path, target: Path) -> None:
    if pins.suffix == ".json":
        for name in ("package.json", pins.name):
            shutil.copy(pins.parent / name, target)
        _run("npm", "ci", "--ignore-scripts", "--engine-strict=false", "--silent", cwd=target)
    else:
        uv = os.environ["STRIPEDJOB_UV"]
        options = ("--quiet", "--no-deps", "--require-hashes", "--target", str(target))
        _run(uv, "pip", "install", *options, "-r", str(pins), cwd=target)


def _run(*command: str, cwd: Path) -> None:
    try:
        done = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, errors="replace", timeout=SECONDS_MAX, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingError(f"{command[0]}: {error}") from error
    if done.returncode:
        raise MissingError(f"{' '.join(command[:3])}: {(done.stderr or done.stdout).strip()}")
