"""Handler `exec`: a command for each unit, with the unit as JSON on its stdin.

Exit code 0: done; 75 (EX_TEMPFAIL): retry; 65 (EX_DATAERR): dead; any other: retry. The end of what it writes to stderr
is the reason; what it writes to stdout is shown as what a Python handler prints. It is a process group of its own, so
that its end is also that of all its children and of nothing else.
"""

import asyncio
import contextlib
import os
import shutil
import signal
from asyncio.subprocess import PIPE
from typing import cast

from stripedjob.runtime.board import Board
from stripedjob.runtime.handlers import as_json
from stripedjob.runtime.work import Dead, Retry, Unit

REASON_BYTES_MAX = 2_000  # the end of stderr
REST_SECONDS_MAX = 0.5  # for what is left of stderr after the exit, where somebody outside of the group holds it open
KILLED_SECONDS_MAX = 5.0  # for a killed command to be gone


def find(target: tuple[str, ...]) -> tuple[str, ...]:
    """Give the command with its full path; raises FileNotFoundError."""
    path = shutil.which(target[0])
    if path is None:
        raise FileNotFoundError(f"there is no executable {target[0]!r} (PATH: {os.environ.get('PATH', '')})")
    return (path, *target[1:])


class Talk(asyncio.SubprocessProtocol):
    """What is heard of one command. Its exit and the end of its stderr are two things: children may hold that open."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.words = b""
        self.silent, self.exited = asyncio.Event(), asyncio.Event()

    def pipe_data_received(self, fd: int, data: bytes | str) -> None:  # noqa: ARG002
        """Keep the end of stderr."""
        self.words = (self.words + cast("bytes", data))[-REASON_BYTES_MAX:]

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:  # noqa: ARG002
        """Note the end of stderr; that of stdin is no matter: it need not read."""
        if fd == 2:  # noqa: PLR2004 - stderr
            self.silent.set()

    def process_exited(self) -> None:
        """Note the exit."""
        self.exited.set()


class Command:
    """Runs the command for one unit after the other."""

    def __init__(self, argv: tuple[str, ...], timeout_seconds: float, board: Board, slot: int) -> None:
        """Take what to run, and where to say which process group it is."""
        self._argv, self._timeout_seconds, self._board, self._slot = argv, timeout_seconds, board, slot

    async def __call__(self, unit: Unit) -> None:
        """Run it; raises Retry or Dead as its exit code says."""
        transport, talk = await asyncio.get_running_loop().subprocess_exec(
            Talk, *self._argv, stdin=PIPE, stdout=None, stderr=PIPE, start_new_session=True
        )
        self._board.set_group(self._slot, transport.get_pid())
        try:
            stdin = cast("asyncio.WriteTransport", transport.get_pipe_transport(0))
            stdin.write(as_json(unit))  # in the background, while stderr is read
            stdin.write_eof()
            async with asyncio.timeout(self._timeout_seconds):
                await talk.exited.wait()
        except TimeoutError:
            raise Retry(f"it ran over its {self._timeout_seconds:g} s and was stopped") from None
        finally:
            await _end(transport, talk)
            self._board.set_group(self._slot, 0)
        code = transport.get_returncode()
        if code:
            raise _error(code, talk.words.decode(errors="replace").strip())


async def _end(transport: asyncio.SubprocessTransport, talk: Talk) -> None:
    """End the command with all that it left behind in its group, and hear the rest. No wait is without a bound."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(transport.get_pid(), signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(talk.exited.wait(), KILLED_SECONDS_MAX)
        await asyncio.wait_for(talk.silent.wait(), REST_SECONDS_MAX)
    transport.close()


def _error(code: int, words: str) -> Retry | Dead:
    reason = f"it died of {_signal(-code)}" if code < 0 else f"it exited with code {code}"
    reason = f"{reason}: {words}" if words else reason
    return Dead(reason) if code == os.EX_DATAERR else Retry(reason)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
