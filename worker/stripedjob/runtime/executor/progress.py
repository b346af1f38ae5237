"""One task on its way through the executor: may its next unit start, how did it end, and when to say so.

The executor calls run_task for every task, in a thread or a task of the slot's own.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from stripedjob.pool.errors import TryLostError
from stripedjob.runtime.clock import now
from stripedjob.runtime.executor.faults import described, fault_of
from stripedjob.runtime.executor.wire import Config, Task
from stripedjob.runtime.forks import process_id
from stripedjob.runtime.outcome import QUICK_SECONDS, Fault, LongCall, Outcome, Verdict
from stripedjob.runtime.shared_state import SharedState
from stripedjob.unit import TRY_SECONDS_MAX, Unit

Call = Callable[[Any], Any]  # takes a unit, or the list of a resource's units; may be a coroutine function
REPORT_SECONDS = 0.05  # an outcome is sent at most so late, however long the next unit takes


class Reporter:
    """Sends outcomes: at once when nothing else waits to be done, else together, at most REPORT_SECONDS late."""

    def __init__(self, send: Callable[[Any], None], busy: Callable[[], bool]) -> None:
        """Take how to send, and whether more work waits."""
        self._send, self._busy = send, busy
        self._pending: list[Outcome] = []
        self._lock = threading.Lock()
        self._some = threading.Event()
        threading.Thread(target=self._later, daemon=True).start()

    def add(self, outcome: Outcome) -> None:
        """Report an outcome."""
        with self._lock:
            self._pending.append(outcome)
        if self._busy():
            if not self._some.is_set():  # which is quicker
                self._some.set()
        else:
            self._flush()

    def _flush(self) -> None:
        with self._lock:
            pending, self._pending = self._pending, []
            if pending:
                self._send(pending)

    def _later(self) -> None:
        while True:
            self._some.wait()
            time.sleep(REPORT_SECONDS)
            self._some.clear()
            with contextlib.suppress(OSError):  # the main process has gone, and the reader ends this one
                self._flush()


class Progress:
    """What is known of one task while it runs; each report covers what came since the one before."""

    def __init__(
        self,
        task: Task,
        shared_state: SharedState,
        slot: int,
        config: Config,
        reporter: Reporter,
        *,
        cancelled: Mapping[tuple[int, int], str],
    ) -> None:
        """Start with nothing tried. `cancelled`: as Cancel says it; it grows meanwhile."""
        self._cancelled = cancelled
        self._task, self._shared_state, self._slot, self._config, self._reporter = (
            task,
            shared_state,
            slot,
            config,
            reporter,
        )
        self._first = self._tried = self._done = 0
        self._faults: list[Fault] = []
        self._away = ""  # why the task ends before its time
        self._reported = self._started = now()
        self._timed = 0  # the place of the first unit whose call may yet have to be measured
        self._calls: tuple[LongCall, ...] = ()
        self._until: float | None = None  # when the time of what runs ends; None: nothing runs
        self._pid = process_id()
        # What was tried, done, at fault and measured when hold() was called.
        self._held: tuple[int, int, int, int] | None = None

    def calls(self) -> list[tuple[Any, int]]:
        """Return the arguments of the function's calls, each with the number of units that it covers."""
        units = self._task.units(self.extend, self.cancellation)
        return [(units, len(units))] if self._config.handler.per_resource else [(unit, 1) for unit in units]

    def may_start(self) -> bool:
        """Claim the right to start the next unit, and say so on the shared_state; False: end here."""
        if self._away or (self._config.block and any(f.verdict is not Verdict.DEAD for f in self._faults)):
            return False
        moment = now()
        if moment >= self._shared_state.deadline or self._reasons():
            return False
        if moment - self._started > QUICK_SECONDS:
            self._measure(moment)
        if self._held is None and moment - self._reported > REPORT_SECONDS and self._tried > self._first:
            self.report(final=False)
        self._timed = self._tried
        self._started, self._until = moment, moment + self._config.handler.timeout_seconds
        self._shared_state.start(self._slot, self._task.key, self._tried, moment)
        return True

    def extend(self, unit: Unit, seconds: float) -> None:
        """Move the time at which the main process stops what runs; never to an earlier one. Called by Unit.extend."""
        index, until, moment = self._tried, self._until, now()
        width = len(self._task.ids) if self._config.handler.per_resource else 1
        is_ours = process_id() == self._pid and unit.id in self._task.ids[index : index + width]
        if until is None or not is_ours:
            raise RuntimeError(f"extend() works while the unit's own handler runs; unit {unit.id} is not at work here")
        if not 0 < seconds <= TRY_SECONDS_MAX - (moment - self._started):
            raise ValueError(
                f"a try cannot be extended by {seconds:g} s: give more than 0, and at most {TRY_SECONDS_MAX:g} s in all"
                f" since its start, which was {moment - self._started:.0f} s ago"
            )
        self._until = max(until, moment + float(seconds))
        self._shared_state.extend(self._slot, self._task.key, index, self._until)

    @property
    def any_cancelled(self) -> bool:
        """Whether anything was cancelled lately, this or other work."""
        return bool(self._cancelled)

    @property
    def end_reason(self) -> str:
        """Why what runs is to end, since a unit of it was cancelled; "" where it is not."""
        return "" if self._until is None else next(iter(self._reasons().values()), "")

    def cancellation(self, unit: Unit) -> str:
        """Return the reason for which a unit was cancelled, or "". Called by Unit.cancelled."""
        index = self._task.ids.index(unit.id) if unit.id in self._task.ids else -1
        return self._cancelled.get((self._task.key, index), "")

    def _reasons(self) -> dict[int, str]:
        """Return why units of the call that is at hand were cancelled, by their place in the lease."""
        if not self._cancelled:
            return {}
        key, width = self._task.key, len(self._task.ids) if self._config.handler.per_resource else 1
        found = ((index, self._cancelled.get((key, index))) for index in range(self._tried, self._tried + width))
        return {index: reason for index, reason in found if reason}

    def ended(self, units: int, error: BaseException | None) -> None:
        """Record that the next so many units were tried, and how it ended."""
        reasons = self._reasons()
        if error is None:
            self._done += units
        elif reasons:  # whatever it ended with: the other units of the call go back as they were
            self._faults += [Fault(index, Verdict.DEAD, reason) for index, reason in reasons.items()]
            self._away = "" if units == len(reasons) else "a unit of its call was cancelled"
        elif issubclass(type(error), TryLostError):
            self._away = described(error)
        else:  # while it is on the shared_state: even to look at the error may take for ever
            fault = fault_of(self._tried, error)
            again = replace(fault, trace="")  # one trace is enough for all units of a call
            self._faults += [fault, *(replace(again, index=self._tried + i) for i in range(1, units))]
        self._until = None
        if self._held is None:
            self._shared_state.clear(self._slot)
        if not self._away:
            self._tried += units
        if self._held is not None:  # a commit may follow, which is not the handler's
            self._measure(now())

    def _measure(self, moment: float) -> None:
        """Note how long the call took that was made last, where it was not quick; it ended no later than `moment`."""
        units, seconds = self._tried - self._timed, moment - self._started
        if units > 0 and seconds > QUICK_SECONDS:
            self._calls += (LongCall(self._timed, units, self._started, seconds),)
        self._timed = self._tried

    def hold(self) -> None:
        """Report nothing of what ends from now on: it is not certain yet, and the last still counts as running."""
        self._held = self._tried, self._done, len(self._faults), len(self._calls)

    def confirm(self) -> None:
        """Take what ended since hold() as certain."""
        self._held = None
        self._shared_state.clear(self._slot)

    def withdraw(self) -> None:
        """Forget what ended since hold(): it is not tried yet."""
        if self._held is not None:
            self._tried, self._done, faults, calls = self._held
            del self._faults[faults:]
            self._calls, self._timed = self._calls[:calls], self._tried
        self.confirm()

    def report(self, *, final: bool) -> None:
        """Send what came since the last report."""
        moment = now()
        if moment - self._started > QUICK_SECONDS:
            self._measure(moment)
        recorded = self._done if self._config.handler.database else 0
        self._reporter.add(
            Outcome(
                self._task.key,
                self._first,
                self._tried,
                tuple(self._faults),
                final,
                moment - self._reported,
                recorded,
                away=self._away,
                at=moment,
                calls=self._calls,
            )
        )
        if not final:
            self._first, self._done, self._faults, self._reported, self._calls = self._tried, 0, [], moment, ()


def run_task(call: Call, progress: Progress) -> None:
    """Run one task with a function that returns when its work is done."""
    for argument, units in progress.calls():
        if not progress.may_start():
            break
        error: BaseException | None = None
        try:
            call(argument)
        except BaseException as raised:  # noqa: BLE001 - whatever the user's code raises is an outcome
            error = raised
        progress.ended(units, error)
    progress.report(final=True)


async def run_task_async(call: Call, progress: Progress) -> None:
    """Run one task with a coroutine function."""
    for argument, units in progress.calls():
        if not progress.may_start():
            break
        error: BaseException | None = None
        try:
            await call(argument)
        except BaseException as raised:  # noqa: BLE001 - whatever the user's code raises is an outcome
            error = raised
        if progress.any_cancelled:
            _let_go_on()
        progress.ended(units, error)
    progress.report(final=True)


def _let_go_on() -> None:
    """Take back the cancellation of the unit that has ended: the slot's task goes on with the next."""
    import asyncio  # noqa: PLC0415 - 8 MB that synchronous handlers do not need

    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()
