"""The main process's side of the executor: starts it, feeds it, hears it, ends what hangs, replaces what died.

Called by the loop. What comes out is a stream of outcomes: every lease that went in comes out with exactly one final
outcome, also when the executor died with it, unless it was forgotten.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

from stripedjob.observe.log import logger
from stripedjob.pool.types import Lease
from stripedjob.runtime import clock
from stripedjob.runtime.executor.process import ExecutorProcess
from stripedjob.runtime.executor.wire import Broken, Cancel, Config, Ready
from stripedjob.runtime.outcome import Fault, LongCall, Outcome, Verdict
from stripedjob.runtime.shared_state import Running, SharedState

WATCH_SECONDS = 0.1  # how often the shared state is looked at for units over their time
CANCEL_SECONDS = 5.0  # for what was cancelled to end in good order
SECOND_LINE_SECONDS = 5.0  # after its time-out, what keeps that by itself and has not is ended with the executor
EXIT_SECONDS_MAX = 2.0  # for an idle executor to end by itself
START_BACKOFF_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)  # after the executor died so many times in a row while it started
STARTS_MAX = 1 + len(START_BACKOFF_SECONDS)  # in a row; then the handler counts as broken
NOT_RENEWED = "the leases were not renewed in time: what ran was stopped, and begins again"
NOT_DRAINED = "the time to drain is over: what ran was stopped, and begins again"


class HandlerError(Exception):
    """The handler cannot be run; the message says why."""


class ExecutorSupervisor:
    """One executor process and what it has been given. `async with` it; then submit() and outcomes()."""

    def __init__(self, config: Config, now: Callable[[], float] = clock.now) -> None:
        """Take what to run; nothing is started yet."""
        self._config, self._now = config, now
        self.shared_state = SharedState.create(config.slots)
        self._given: dict[int, tuple[Lease, int]] = {}  # key -> the lease, and how many of its units are settled
        self._outcomes: asyncio.Queue[list[Outcome] | BaseException] = asyncio.Queue()
        self._process: ExecutorProcess | None = None
        self._timed_out: dict[tuple[int, int], float] = {}  # of which lease which unit, and how long it might have run
        self._cancelled: dict[
            tuple[int, int], tuple[str, float]
        ] = {}  # of which lease which unit: why, and when it ends
        self._blameless = False  # the process was ended by this one
        self._ready = False
        self._broken: HandlerError | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Start the executor; raises HandlerError where the function cannot be loaded, or its process always dies."""
        try:
            await self._start()
        except BaseException:
            await self._end()
            self.shared_state.close()
            raise
        self._tasks = [asyncio.create_task(self._serve()), asyncio.create_task(self._watch())]
        for task in self._tasks:
            task.add_done_callback(self._ended)
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the executor: an idle one may do what its modules do at exit, any other ends at once."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        if self._process is not None and self._ready and not self._given:
            await self._process.leave(EXIT_SECONDS_MAX)
        await self._end()
        self.shared_state.close()

    def submit(self, leases: Iterable[tuple[int, Lease]]) -> None:
        """Hand leases over, each under a key of its own, which is greater than all before."""
        given = dict(leases)
        if not given:
            return
        self._given |= {key: (lease, 0) for key, lease in given.items()}
        if self._ready and self._process is not None:
            self._process.give(given.items())
        elif self._broken is not None:
            self._give_back()
            self._outcomes.put_nowait(self._broken)

    def cancel(self, reasons: Mapping[tuple[int, int], str]) -> None:
        """Have units end: (key of the lease, place in it) → why. Those that have not begun do not; again does nothing.

        A coroutine is cancelled, a command gets SIGTERM; any handler may look at `unit.cancelled`. What still runs
        after CANCEL_SECONDS ends with the executor.
        """
        new = {unit: why for unit, why in reasons.items() if unit not in self._cancelled and unit[0] in self._given}
        if new and self._ready and self._process is not None:
            self._cancelled |= {unit: (why, self._now() + CANCEL_SECONDS) for unit, why in new.items()}
            self._process.send(Cancel(new))

    async def outcomes(self) -> list[Outcome]:
        """Wait for the next outcomes; raises HandlerError where the executor cannot be started again."""
        return _checked(await self._outcomes.get())

    def forget(self) -> None:
        """Forget everything that was handed over: nothing of it starts from now on, nor is anything said of it.

        What runs already goes on; see kill().
        """
        self._given.clear()
        self._cancelled.clear()
        waiting = [self._outcomes.get_nowait() for _ in range(self._outcomes.qsize())]
        for item in waiting:
            if isinstance(item, BaseException):
                self._outcomes.put_nowait(item)

    async def kill(self) -> None:
        """Forget everything, and end the executor with whatever it is doing, ready or not; another is started."""
        self.forget()
        await self._stop()

    async def _stop(self) -> None:
        """End the executor; nobody is blamed, and another is started."""
        self._blameless = True
        await self._end()

    async def _end(self) -> None:
        if self._process is not None:
            await self._process.end()
        self.shared_state.kill_groups()

    async def _start(self) -> None:
        """Start executors until one is ready. Raises HandlerError where the handler is broken, or too many died."""
        for seconds in (*START_BACKOFF_SECONDS, None):
            while (words := await self._try_to_start()) and self._blameless:
                pass  # it was killed for another reason, which is no death
            if not words:
                return
            if seconds is None:
                raise HandlerError(f"{words} while it started, {STARTS_MAX} times in a row")
            logger.warning(f"{words} while it started; it is started again", extra={"after_seconds": seconds})
            await asyncio.sleep(seconds)

    async def _try_to_start(self) -> str:
        """Start an executor and wait until it is ready: ""; or say how it died. Raises HandlerError: it is broken."""
        self._blameless = False
        try:
            self._process = process = await ExecutorProcess.start(self._config, self.shared_state)
        except OSError as error:
            return f"the handler's process could not be made: {error}"
        answer = await process.receive()
        if isinstance(answer, Ready):
            self._ready, self._blameless = True, False
            if self._given:
                process.give((key, lease) for key, (lease, _) in self._given.items())
            return ""
        await self._end()
        if isinstance(answer, Broken):
            raise HandlerError(answer.reason)
        return process.epitaph()

    async def _serve(self) -> None:
        while self._process is not None:
            outcomes: list[tuple[Any, ...]] | None = await self._process.receive()
            if outcomes is not None:
                self._take([Outcome(*outcome) for outcome in outcomes])
                continue
            await self._reap()
            try:
                await self._start()
            except HandlerError as error:
                self._broken = error
                self._give_back()
                self._outcomes.put_nowait(error)
                return

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Pass on what a task of this executor failed with: a worker without it would wait for ever."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._outcomes.put_nowait(error)

    def _take(self, outcomes: list[Outcome]) -> None:
        known = [outcome for outcome in outcomes if outcome.key in self._given]
        if len(known) < len(outcomes):
            logger.info("outcomes of leases that were lost are ignored", extra={"leases": len(outcomes) - len(known)})
        for outcome in known:
            if outcome.final:
                del self._given[outcome.key]
                self._forget_cancelled(outcome.key)
            else:
                self._given[outcome.key] = (self._given[outcome.key][0], outcome.tried)
        away = next((outcome.away for outcome in known if outcome.away), "")
        if away:
            logger.warning("units go back as they were", extra={"reason": away})
        if known:
            self._outcomes.put_nowait(known)

    def _forget_cancelled(self, key: int) -> None:
        for unit in [unit for unit in self._cancelled if unit[0] == key]:
            del self._cancelled[unit]

    def _give_back(self) -> None:
        """Give back what was handed over and will not be started."""
        if self._given:
            ended = [Outcome(key, settled, settled, (), final=True) for key, (_, settled) in self._given.items()]
            self._given.clear()
            self._outcomes.put_nowait(ended)

    async def _reap(self) -> None:
        """Make a final outcome of everything that the dead executor had."""
        self._ready = False
        had = list(self._given)  # what comes from now on is the next one's
        await self._end()
        running = self.shared_state.running()
        if self.shared_state.is_overdue:
            self._blameless, self.shared_state.is_overdue = True, False
            self._tell_stopped(running)
        for slot in range(self._config.slots):
            self.shared_state.clear(slot)
        lost = [self._lost(key, *self._given.pop(key), running) for key in had if key in self._given]
        self._timed_out.clear()
        self._cancelled.clear()
        if lost:
            self._outcomes.put_nowait(lost)
        if not self._blameless:
            await asyncio.sleep(START_BACKOFF_SECONDS[0])  # so that a handler that always kills costs little

    def _lost(self, key: int, lease: Lease, settled: int, running: list[Running]) -> Outcome:
        """Give back what was not reported, and blame what ran: for its time, or for the crash if it ran alone.

        Units before it in the lease may have been done; they go back as well, since nobody can say so any more.
        """
        faults: tuple[Fault, ...] = ()
        suspect = False
        ran = next((one for one in running if one.key == key and one.index >= settled), None)
        if ran is not None:
            index = ran.index
            width = len(lease.ids) if self._config.handler.per_resource else 1
            units = [(i, *self._cancelled[key, i]) for i in range(index, index + width) if (key, i) in self._cancelled]
            if units:
                faults = tuple(Fault(i, Verdict.DEAD, reason) for i, reason, _ in units)
            elif (key, index) in self._timed_out:
                reason = f"it ran over its {self._timed_out[key, index]:.6g} s and was stopped"
                faults = tuple(Fault(index + i, Verdict.RETRY, reason) for i in range(width))
            elif not self._timed_out and not self._blameless:
                suspect = len(running) > 1
                if not suspect:
                    faults = tuple(Fault(index + i, Verdict.CRASH, self._epitaph()) for i in range(width))
        now = self._now()
        calls = tuple(LongCall(fault.index, 1, ran.since, now - ran.since) for fault in faults) if ran else ()
        return Outcome(key, settled, settled, faults, final=True, suspect=suspect, at=now, calls=calls)

    def _epitaph(self) -> str:
        return self._process.epitaph() if self._process is not None else ""

    async def _watch(self) -> None:
        handler = self._config.handler
        margin = SECOND_LINE_SECONDS if handler.ends_itself else 0.0
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            moment = self._now()
            allowed = {one: (one.until or one.since + handler.timeout_seconds) for one in self.shared_state.running()}
            late = {
                (one.key, one.index): until - one.since for one, until in allowed.items() if until + margin < moment
            }
            if late:
                self._timed_out |= late
                await self._end()
            elif self._is_overdue(moment):
                await self._stop()
            elif moment >= self.shared_state.kill_at and self._given:
                if self._ready:
                    self._tell_stopped(self.shared_state.running())
                    await self._stop()
                else:
                    self._give_back()

    def _tell_stopped(self, running: list[Running]) -> None:
        """Say that the leases' time ended before the work's: at the end of a drain nothing starts any more."""
        if running:
            words = NOT_RENEWED if self.shared_state.deadline else NOT_DRAINED
            logger.warning(words, extra={"calls": len(running)})

    def _is_overdue(self, moment: float) -> bool:
        """Return whether something runs whose time to end, since it was cancelled, is over."""
        overdue = {unit for unit, (_, end) in self._cancelled.items() if end < moment}
        if not overdue:
            return False
        running, keys = self.shared_state.running(), {key for key, _ in overdue}
        if self._config.handler.per_resource:
            return any(one.key in keys for one in running)
        return any((one.key, one.index) in overdue for one in running)


def _checked(item: list[Outcome] | BaseException) -> list[Outcome]:
    if isinstance(item, BaseException):
        raise item
    return item
