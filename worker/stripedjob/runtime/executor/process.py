"""One executor process as the main process sees it: started, spoken to, and ended. Owned by executor/supervisor.py."""

import asyncio
import contextlib
import os
import pickle
import signal
import socket
import sys
from collections.abc import Iterable
from typing import Any, Self

from stripedjob.pool.types import Lease
from stripedjob.runtime.executor.wire import LENGTH, Config, End, packed, task_row
from stripedjob.runtime.shared_state import SharedState

KILLED_SECONDS_MAX = 5.0  # for what was killed to be gone: longer only where the kernel itself waits for a device
PROGRAM = "from stripedjob.runtime.executor.main import main; main()"  # not -m: its classes would be those of __main__
OUR_VARIABLES = ("STRIPEDJOB_POSTGRES_URL", "STRIPEDJOB_LOCK_URL", "STRIPEDJOB_SPEC", "STRIPEDJOB_PLAN")


class ExecutorProcess:
    """A process that runs the handler; it is the head of a process group of its own."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Take what start() made."""
        self._process, self._reader, self._writer = process, reader, writer
        self._is_ended = False

    @classmethod
    async def start(cls, config: Config, shared_state: SharedState) -> Self:
        """Start one, and tell it what to run. Raises OSError where the machine has no room for it.

        What it prints goes to stderr, beside the log of this process, whose stdout stays its own.
        """
        ours, theirs = socket.socketpair()
        process = None
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-P", "-c", PROGRAM, str(theirs.fileno()), str(shared_state.fd)),
                    pass_fds=(theirs.fileno(), shared_state.fd),
                    env={name: value for name, value in os.environ.items() if name not in OUR_VARIABLES},
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=2,
                    start_new_session=True,
                )
            reader, writer = await asyncio.open_connection(sock=ours)
        except BaseException:  # told to end meanwhile, too
            ours.close()
            if process is not None:
                process.kill()
                await process.wait()
            raise
        started = cls(process, reader, writer)
        started.send(config)
        return started

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def give(self, leases: Iterable[tuple[int, Lease]]) -> None:
        """Send leases to work on, each with its key."""
        self.send([task_row(key, lease) for key, lease in leases])

    def send(self, message: Any) -> None:
        """Send a message, in the background."""
        self._writer.write(packed(message))

    async def receive(self) -> Any:
        """Wait for its next message; None: it has ended."""
        try:
            size = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))[0]
            return pickle.loads(await self._reader.readexactly(size))  # noqa: S301 - from our own child
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def leave(self, seconds: float) -> None:
        """Let it end by itself, with what the user's modules do at exit; then end it."""
        self.send(End())
        await self._gone(seconds)
        await self.end()

    async def end(self) -> None:
        """End it at once, with all that it has started in its group, also where it has ended by itself."""
        if not self._is_ended:  # later its number may be another's
            self._is_ended = True
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        await self._gone(KILLED_SECONDS_MAX)
        self._writer.transport.abort()

    async def _gone(self, seconds: float) -> None:
        """Wait until it has ended, at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):  # wait_for() of Python 3.11 may lose that its caller is cancelled
                await self._process.wait()

    def epitaph(self) -> str:
        """Say how it ended."""
        code = self._process.returncode
        if code is not None and code < 0:
            return f"the handler's process died of {signal.Signals(-code).name}"
        return f"the handler's process exited with code {code}"
