"""The process that holds one embedded engine for as long as anybody uses it, and a while longer.

Started by engines.py as `python -m stripedjob.local.engine_daemon ENGINE DIRECTORY LIFE`; returns at once, and goes on
in the background, in a session of its own. LIFE is `temporary`, or for how many seconds the engine waits for its next
user. The users of a directory share the lock `users.lock`; the daemon waits for it alone. The kernel takes a dead
user's lock back, so an engine that does not wait outlives no user, however that user ended. SIGTERM ends daemon and
engine at once.  The directory may be removed at any time: the daemon then ends its engine without touching anything by
its path, where the next one may be already.
"""

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from stripedjob import filelock
from stripedjob.local.engine import EngineError, Server
from stripedjob.local.engine_servers import PostgresServer, ValkeyServer

SERVERS: Final[dict[str, type[Server]]] = {"postgres": PostgresServer, "valkey": ValkeyServer}
DAEMON_LOCK = "daemon.lock"  # held while a daemon lives
USERS_LOCK = "users.lock"  # shared by the users; its time is when the last one came
URL_FILE = "url"  # there while the engine takes clients
TEMPORARY = "temporary"
LOOK_SECONDS = 0.5  # between two looks for a user, while there is none


def main(engine: str, directory: str, life: str) -> None:
    """Become the daemon of `directory`, unless it has one."""
    home = Path(directory)
    lock = filelock.try_take(home / DAEMON_LOCK)
    if lock is None:
        return
    (home / URL_FILE).unlink(missing_ok=True)
    if os.fork():  # the lock goes on in the child; the starter need not be there to reap it
        return
    os.ftruncate(lock, 0)
    os.write(lock, str(os.getpid()).encode())
    signal.signal(signal.SIGTERM, _end)
    server = SERVERS[engine](home, durable=life != TEMPORARY)
    unused = False
    try:
        server.start()
        _publish(home / URL_FILE, server.url)
        _wait_until_unused(home, server, 0.0 if life == TEMPORARY else float(life))
        unused = True
    except EngineError as error:
        sys.stderr.write(f"{error}\n")
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if home.exists() and not _is_at(lock, home / DAEMON_LOCK):
            server.kill()  # in good order it would remove its socket by its path, where the next one's is
        else:
            (home / URL_FILE).unlink(missing_ok=True)
        server.stop()
        if life == TEMPORARY and unused:  # else a user still reads there why, and removes it
            shutil.rmtree(home, ignore_errors=True)


def _wait_until_unused(home: Path, server: Server, linger_seconds: float) -> None:
    """Return when nobody has used the engine for so long; end when it has died: the next user starts afresh."""
    signal.signal(signal.SIGCHLD, _end)
    if not server.is_running():
        raise EngineError(f"{server.name} in {home} ended as soon as it was ready:\n{server.log_tail()}")
    alone = filelock.take_when_alone(home / USERS_LOCK)  # to the end: a new user waits until the engine has stopped
    came_at, since = _changed_at(alone), time.monotonic()
    while _is_at(alone, home / USERS_LOCK) and time.monotonic() - since < linger_seconds:
        filelock.lend(alone, LOOK_SECONDS)
        if _changed_at(alone) != came_at:
            came_at, since = _changed_at(alone), time.monotonic()


def _changed_at(descriptor: int) -> int:
    return os.fstat(descriptor).st_mtime_ns


def _is_at(descriptor: int, path: Path) -> bool:
    """Return whether this is still the file at that path: the directory may have been removed, and made again."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False


def _publish(path: Path, url: str) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(url)
    fresh.rename(path)


def _end(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
