"""The main process's side of the executor: starts it, feeds it, hears it, ends what hangs, replaces what died.

Called by the loop. What comes out is a stream of outcomes: every lease that went in comes out with exactly one final
outcome, also when the executor died with it.
"""

import asyncio
import contextlib
import math
import os
import pickle
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, Self

from stripedjob.pool.types import Lease
from stripedjob.runtime.board import Board, Running
from stripedjob.runtime.executor import LENGTH, Broken, Config, Ready, Task
from stripedjob.runtime.work import Fault, Outcome, Verdict

WATCH_SECONDS = 0.1  # how often the board is looked at for units over their time
RESTART_SECONDS = 0.2  # between a death and the next start, so that a handler that always kills costs little


class HandlerError(Exception):
    """The handler cannot be had; the message says why."""


class Host:
    """One executor process and what it has been given. `async with Host(...)`; then submit() and outcomes()."""

    def __init__(self, config: Config, clock: Callable[[], float] = time.monotonic) -> None:
        """Take what to run; nothing is started yet."""
        self._config, self._clock = config, clock
        self._timeout_seconds = config.handler.timeout_seconds
        self.kill_at = math.inf  # monotonic: what still runs then is ended, and nobody is blamed
        self.board = Board.create(config.slots)
        self._given: dict[int, tuple[Task, int]] = {}  # key -> the task, and how many of its units are settled
        self._outcomes: asyncio.Queue[list[Outcome] | HandlerError] = asyncio.Queue()
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._timed_out: dict[tuple[int, int], float] = {}  # of which lease which unit, and how long it might have run
        self._blameless = False
        self._ready = False
        self._broken: HandlerError | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Start the executor; raises HandlerError where the function cannot be imported."""
        try:
            reader = await self._start()
        except BaseException:
            self.board.close()
            raise
        self._tasks = [asyncio.create_task(self._serve(reader)), asyncio.create_task(self._watch())]
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the executor at once."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self._end()
        self.board.close()

    def submit(self, leases: Iterable[tuple[int, Lease]]) -> None:
        """Hand leases over, each under a key of its own."""
        tasks = [
            Task(key, lease.resource, lease.fence, lease.ids, lease.attempts, lease.payloads, lease.worker_id)
            for key, lease in leases
        ]
        if not tasks:
            return
        self._given |= {task.key: (task, 0) for task in tasks}
        if self._ready:
            self._send(tasks)
        elif self._broken is not None:
            self._give_up(self._broken)

    async def outcomes(self) -> list[Outcome]:
        """Wait for the next outcomes; raises HandlerError where the executor cannot be started again."""
        return _checked(await self._outcomes.get())

    def outcomes_now(self) -> list[Outcome]:
        """Give the outcomes that are there already, without waiting."""
        return [] if self._outcomes.empty() else _checked(self._outcomes.get_nowait())

    async def kill(self) -> None:
        """End the executor with whatever it is doing; nobody is blamed, and another is started."""
        if self._ready:
            self._blameless = True
            await self._end()

    async def _end(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()
        self.board.kill_groups()
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(ConnectionError):
                await self._writer.wait_closed()

    async def _start(self) -> asyncio.StreamReader:
        ours, theirs = socket.socketpair()
        with theirs:
            # Not -m: its classes would be those of __main__, and this process could not read them.
            program = "from stripedjob.runtime.executor import main; main()"
            command = [sys.executable, "-P", "-c", program, str(theirs.fileno()), str(self.board.fd)]
            self._process = await asyncio.create_subprocess_exec(
                *command, pass_fds=(theirs.fileno(), self.board.fd), start_new_session=True
            )
        reader, self._writer = await asyncio.open_connection(sock=ours)
        self._send(self._config)
        answer = await _receive(reader)
        if isinstance(answer, Ready):
            self._ready = True
            if self._given:
                self._send([task for task, _ in self._given.values()])
            return reader
        await self._end()
        raise HandlerError(answer.reason if isinstance(answer, Broken) else "the executor ended before it was ready")

    def _send(self, message: Any) -> None:
        assert self._writer is not None  # noqa: S101 - _start comes first
        body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
        self._writer.writelines((LENGTH.pack(len(body)), body))

    async def _serve(self, reader: asyncio.StreamReader) -> None:
        while True:
            outcomes: list[Outcome] | None = await _receive(reader)
            if outcomes is None:
                await self._bury()
                try:
                    reader = await self._start()
                except HandlerError as error:
                    self._broken = error
                    self._give_up(error)
                    return
                continue
            for outcome in outcomes:
                if outcome.final:
                    del self._given[outcome.key]
                else:
                    self._given[outcome.key] = (self._given[outcome.key][0], outcome.tried)
            self._outcomes.put_nowait(outcomes)

    def _give_up(self, error: HandlerError) -> None:
        """Give back what was handed over since the executor died for good."""
        if self._given:
            self._outcomes.put_nowait([Outcome(key, 0, 0, (), final=True) for key in self._given])
            self._given.clear()
        self._outcomes.put_nowait(error)

    async def _bury(self) -> None:
        """Make a final outcome of everything that the dead executor had."""
        self._ready = False
        await self._end()
        running = self.board.running()
        for slot in range(self._config.slots):
            self.board.clear(slot)
        lost = [self._lost(task, settled, running) for task, settled in self._given.values()]
        self._given.clear()
        self._timed_out.clear()
        self._blameless = False
        if lost:
            self._outcomes.put_nowait(lost)
        await asyncio.sleep(RESTART_SECONDS)

    def _lost(self, task: Task, settled: int, running: list[Running]) -> Outcome:
        """Give back what was not reported, and blame what ran: for its time, or for the crash if it ran alone.

        Units before it in the lease may have been done; they go back as well, since nobody can say so any more.
        """
        faults: tuple[Fault, ...] = ()
        suspect = False
        index = next((one.index for one in running if one.key == task.key and one.index >= settled), None)
        if index is not None:
            width = len(task.ids) if self._config.handler.per_resource else 1
            if (task.key, index) in self._timed_out:
                reason = f"it ran over its {self._timed_out[task.key, index]:.6g} s and was stopped"
                faults = tuple(Fault(index + i, Verdict.RETRY, reason) for i in range(width))
            elif not self._timed_out and not self._blameless:
                suspect = len(running) > 1
                if not suspect:
                    faults = tuple(Fault(index + i, Verdict.CRASH, self._epitaph()) for i in range(width))
        return Outcome(task.key, settled, settled, faults, final=True, suspect=suspect)

    def _epitaph(self) -> str:
        code = self._process.returncode if self._process is not None else None
        if code is not None and code < 0:
            return f"the handler's process died of {signal.Signals(-code).name}"
        return f"the handler's process exited with code {code}"

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            now = self._clock()
            allowed = {one: (one.until or one.since + self._timeout_seconds) for one in self.board.running()}
            late = {(one.key, one.index): until - one.since for one, until in allowed.items() if until < now}
            if late and not self._config.handler.ends_itself:
                self._timed_out |= late
                await self._end()
            elif now >= self.kill_at and self._given:
                await self.kill()


def _checked(item: list[Outcome] | HandlerError) -> list[Outcome]:
    if isinstance(item, HandlerError):
        raise item
    return item


async def _receive(reader: asyncio.StreamReader) -> Any:
    try:
        size = LENGTH.unpack(await reader.readexactly(LENGTH.size))[0]
        return pickle.loads(await reader.readexactly(size))  # noqa: S301 - from our own child
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
