"""Handler `exec`: a command for each unit, with the unit as JSON on its stdin.

Exit code 0: done; 75 (EX_TEMPFAIL): retry; 65 (EX_DATAERR): dead; any other: retry. What it writes to stderr is the
reason. It is a process group of its own, so that a time-out ends it with all its children and nothing else.
"""

import asyncio
import contextlib
import os
import shutil
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process

from stripedjob.runtime.board import Board
from stripedjob.runtime.handlers import as_json
from stripedjob.runtime.work import Dead, Retry, Unit

REASON_BYTES_MAX = 2_000  # the end of stderr


def find(target: tuple[str, ...]) -> tuple[str, ...]:
    """Give the command with its full path; raises FileNotFoundError."""
    path = shutil.which(target[0])
    if path is None:
        raise FileNotFoundError(f"there is no executable {target[0]!r} (PATH: {os.environ.get('PATH', '')})")
    return (path, *target[1:])


class Command:
    """Runs the command for one unit after the other."""

    def __init__(self, argv: tuple[str, ...], timeout_seconds: float, board: Board, slot: int) -> None:
        """Take what to run, and where to say which process group it is."""
        self._argv, self._timeout_seconds, self._board, self._slot = argv, timeout_seconds, board, slot

    async def __call__(self, unit: Unit) -> None:
        """Run it; raises Retry or Dead as its exit code says."""
        process = await asyncio.create_subprocess_exec(
            *self._argv, stdin=PIPE, stdout=DEVNULL, stderr=PIPE, start_new_session=True
        )
        self._board.set_group(self._slot, process.pid)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                words = await _converse(process, as_json(unit))
        except TimeoutError:
            raise Retry(f"it ran over its {self._timeout_seconds:g} s and was stopped") from None
        finally:
            with contextlib.suppress(ProcessLookupError):  # what it left behind in its group goes too
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            self._board.set_group(self._slot, 0)
        if process.returncode:
            raise _error(process.returncode, words)


async def _converse(process: Process, message: bytes) -> str:
    """Write the unit, read stderr to its end, and wait for the exit."""
    assert process.stdin is not None  # noqa: S101 - both are pipes
    assert process.stderr is not None  # noqa: S101
    with contextlib.suppress(ConnectionError):  # it need not read
        process.stdin.write(message)
        await process.stdin.drain()
        process.stdin.close()
    words = b""
    while part := await process.stderr.read(1 << 16):
        words = (words + part)[-REASON_BYTES_MAX:]
    await process.wait()
    return words.decode(errors="replace").strip()


def _error(code: int, words: str) -> Retry | Dead:
    reason = f"it died of {signal.Signals(-code).name}" if code < 0 else f"it exited with code {code}"
    reason = f"{reason}: {words}" if words else reason
    return Dead(reason) if code == os.EX_DATAERR else Retry(reason)
