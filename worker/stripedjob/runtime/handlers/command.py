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
import subprocess
import threading
from collections.abc import Callable
from subprocess import PIPE

from stripedjob.runtime.shared_state import SharedState
from stripedjob.unit import Dead, Retry, Unit, as_json

REASON_BYTES_MAX = 1_900  # of the end of stderr: with the words before it, what a reason may have
REST_SECONDS_MAX = 0.5  # for what is left of stderr after the exit, where somebody outside of the group holds it open
TERM_SECONDS_MAX = 3.0  # for a command that was cancelled to end by itself
KILLED_SECONDS_MAX = 5.0  # for a killed command to be gone


def find(target: tuple[str, ...]) -> tuple[str, ...]:
    """Return the command with its full path; raises FileNotFoundError."""
    path = shutil.which(target[0])
    if path is None:
        raise FileNotFoundError(f"there is no executable {target[0]!r} on this PATH: {os.environ.get('PATH', '')}")
    return (path, *target[1:])


class Talk(asyncio.Protocol):
    """One command that runs. Its exit and the end of its stderr are two things: children may hold that open."""

    def __init__(self, argv: tuple[str, ...], announce: Callable[[], None]) -> None:
        """Start it; before it becomes the command it announces itself."""
        self._process = subprocess.Popen(  # noqa: S603
            argv,
            stdin=PIPE,
            stderr=PIPE,
            start_new_session=True,
            preexec_fn=announce,  # noqa: PLW1509 - it takes no lock, and no code of a user runs in this process
        )
        self.words = b""
        self._silent, self._exited = asyncio.Event(), asyncio.Event()
        self._pipes: list[asyncio.BaseTransport] = []
        threading.Thread(target=self._wait, args=(asyncio.get_running_loop(),), daemon=True).start()

    def data_received(self, data: bytes) -> None:
        """Keep the end of stderr."""
        self.words = (self.words + data)[-REASON_BYTES_MAX:]

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Note the end of stderr."""
        self._silent.set()

    async def exit_code(self, message: bytes) -> int:
        """Write to its stdin, as far as it reads that, while its stderr is read, and wait for its exit."""
        loop = asyncio.get_running_loop()
        stderr, _ = await loop.connect_read_pipe(lambda: self, self._process.stderr)
        stdin, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, self._process.stdin)
        self._pipes += [stderr, stdin]
        stdin.write(message)
        stdin.write_eof()
        await self._exited.wait()
        return int(self._process.returncode)

    async def terminate(self) -> None:
        """Ask it to end, and wait a little for that."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TERM_SECONDS_MAX):
                await self._exited.wait()

    async def end(self) -> None:
        """End it with all that it left behind in its group, and hear the rest. No wait is without a bound."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KILLED_SECONDS_MAX):
                await self._exited.wait()
            async with asyncio.timeout(REST_SECONDS_MAX):
                await self._silent.wait()
        for pipe in self._pipes:
            pipe.close()

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        self._process.wait()
        with contextlib.suppress(RuntimeError):  # the loop is closed: this process ends
            loop.call_soon_threadsafe(self._exited.set)


class Command:
    """Runs the command for one unit after the other."""

    def __init__(self, argv: tuple[str, ...], timeout_seconds: float, shared_state: SharedState, slot: int) -> None:
        """Take what to run, and where to say which process group it is."""
        self._argv, self._timeout_seconds, self._shared_state, self._slot = argv, timeout_seconds, shared_state, slot
        self._pid = os.getpid()

    async def __call__(self, unit: Unit) -> None:
        """Run it; raises Retry or Dead as its exit code says."""
        talk = Talk(self._argv, self._announce)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                code = await talk.exit_code(as_json(unit))
        except TimeoutError:
            raise Retry(f"it ran over its {self._timeout_seconds:g} s and was stopped") from None
        except asyncio.CancelledError:
            await talk.terminate()
            raise
        finally:
            await talk.end()
            self._shared_state.set_group(self._slot, 0)
        if code:
            raise _error(code, talk.words.decode(errors="replace").strip())

    def _announce(self) -> None:
        """In the child: say which process group it is, so that it ends with this process; it does not outlive that.

        Whoever ends this process ends it first, and then the groups that it finds.
        """
        self._shared_state.set_group(self._slot, os.getpid())
        if os.getppid() != self._pid:
            os._exit(1)


def _error(code: int, words: str) -> Retry | Dead:
    reason = f"it died of {_signal(-code)}" if code < 0 else f"it exited with code {code}"
    reason = f"{reason}: {words}" if words else reason
    return Dead(reason) if code == os.EX_DATAERR else Retry(reason)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
