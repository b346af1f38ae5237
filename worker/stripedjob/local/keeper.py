"""The process that holds one embedded engine for as long as anybody uses it.

Started by engines.py as `python -m stripedjob.local.keeper ENGINE DIRECTORY [temporary]`; returns at once and
goes on in the background, in a session of its own. The users of a directory share the lock `users.lock`; the
keeper waits for it alone. The kernel takes a dead user's lock back, so an engine outlives no user, however
that user ended.
"""

import contextlib
import os
import shutil
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from stripedjob import filelock
from stripedjob.local.server import EngineError, Server
from stripedjob.local.servers import PostgresServer, ValkeyServer

SERVERS: Final[dict[str, type[Server]]] = {"postgres": PostgresServer, "valkey": ValkeyServer}
KEEPER_LOCK = "keeper.lock"  # held while a keeper lives
USERS_LOCK = "users.lock"  # shared by the users
URL_FILE = "url"  # there while the engine takes clients
TEMPORARY = "temporary"


def main(engine: str, directory: str, *, temporary: bool) -> None:
    """Become the keeper of `directory`, unless it has one."""
    home = Path(directory)
    if filelock.try_take(home / KEEPER_LOCK) is None:
        return
    (home / URL_FILE).unlink(missing_ok=True)
    if os.fork():  # the lock goes on in the child; the starter need not be there to reap it
        return
    signal.signal(signal.SIGTERM, _end)
    server = SERVERS[engine](home, durable=not temporary)
    unused = False
    try:
        server.start()
        _publish(home / URL_FILE, server.url)
        _wait_until_unused(home, server)
        unused = True
    except EngineError as error:
        sys.stderr.write(f"{error}\n")
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        (home / URL_FILE).unlink(missing_ok=True)
        server.stop()
        if temporary and unused:  # else a user still reads there why, and removes it
            shutil.rmtree(home, ignore_errors=True)


def _wait_until_unused(home: Path, server: Server) -> None:
    """Return when the last user has gone; end when the engine has died: the next user starts afresh."""
    signal.signal(signal.SIGCHLD, _end)
    if not server.is_running():
        raise EngineError(f"{server.name} in {home} ended as soon as it was ready:\n{server.log_tail()}")
    # Kept to the end: a new user waits until the engine has stopped.
    filelock.take_when_alone(home / USERS_LOCK)


def _publish(path: Path, url: str) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(url)
    fresh.rename(path)


def _end(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(sys.argv[1], sys.argv[2], temporary=TEMPORARY in sys.argv[3:])
