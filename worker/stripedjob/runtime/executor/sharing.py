"""Tasks whose handler takes part in the pool's transactions: which of their units share one, and what is said when.

The executor has a Sharing, or a SharingAsync, for each slot, and calls it with each task. A unit is reported only after
the commit that its effect is in. What a transaction does not bring to its end is done again, unit by unit.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from stripedjob.pool.effects import steps, transaction
from stripedjob.pool.effects.handler_session import HandlerSession
from stripedjob.pool.effects.shared import Shared
from stripedjob.pool.effects.steps import Steps
from stripedjob.pool.errors import SharedLostError, TryLostError
from stripedjob.pool.types import Database
from stripedjob.runtime.clock import now
from stripedjob.runtime.executor.progress import Progress

if TYPE_CHECKING:
    from stripedjob.unit import Unit

# Postgres keeps 64 savepoints that have written at hand for each session; beyond them, every other session has to look
# them up. Half of that leaves one to each unit for itself, and is enough: a commit is expensive, a 32nd of it is not.
UNITS_MAX = 32
# What a transaction keeps locked, and what is lost with it, is to be little: no more than so many seconds of work when
# it is committed (and the unit that took them longer), nor so many bytes of payloads.
SECONDS_MAX = 0.05
BYTES_MAX = 1_000_000
# But where to begin and to commit one takes long itself (a disk that flushes slowly, a server that is far or busy),
# that is to be a fifth of the time at most, as long as it does not keep the locks for longer than this.
SLOW_SECONDS_MAX = 0.5
WORK_FOR_COMMIT = 4
# After a transaction that was lost, units have one each for so long: a deadlock is noticed by Postgres after a second,
# and a handler that does not fit into a savepoint is called for nothing.
ALONE_SECONDS = 30.0


class _Slot:
    """What one slot does with its tasks, in one connection. Its methods are steps (pool/effects/steps.py)."""

    def __init__(
        self, function: Callable[[Any, Any], Any], database: Database, clock: Callable[[], float], *, is_async: bool
    ) -> None:
        self._session = HandlerSession(function, database, is_async=is_async)
        self._clock = clock
        self._alone_until = 0.0
        self._around_seconds = 0.0  # what it took to begin and to commit the last transaction that units shared

    def run(self, progress: Progress) -> Steps[None]:
        """Run one task."""
        calls = progress.calls()
        while calls and progress.may_start():
            if len(calls) > 1 and self._clock() >= self._alone_until:
                settled = yield from self._together(calls, progress)
            else:
                settled = yield from self._alone(*calls[0], progress)
            calls = calls[settled:]
        progress.report(final=True)

    def close(self) -> Steps[None]:
        """Close the connection."""
        return self._session.close()

    def _alone(self, argument: Any, units: int, progress: Progress) -> Steps[int]:
        error: BaseException | None = None
        try:
            yield from transaction.alone(self._session, argument)
        except BaseException as raised:  # noqa: BLE001 - whatever the user's code raises is an outcome
            error = raised
        progress.ended(units, error)
        return 1

    def _together(self, calls: list[tuple[Any, int]], progress: Progress) -> Steps[int]:
        """Make calls in one transaction, the first of which may start; returns how many are settled, 0: none."""
        shared = Shared(self._session)
        progress.hold()
        try:
            made = yield from self._shared(shared, calls, progress)
        except (SharedLostError, TryLostError) as error:
            yield from shared.abandon()
            progress.withdraw()
            if isinstance(error, TryLostError):
                progress.ended(0, error)
            self._alone_until = self._clock() + ALONE_SECONDS
            return 0
        progress.confirm()
        return made

    def _shared(self, shared: Shared, calls: list[tuple[Any, int]], progress: Progress) -> Steps[int]:
        began, size_bytes, made = self._clock(), 0, 0
        seconds_max = max(SECONDS_MAX, min(SLOW_SECONDS_MAX, WORK_FOR_COMMIT * self._around_seconds))
        done: list[Unit] = []
        yield from shared.begin()
        begun = self._clock()
        for argument, units in calls[:UNITS_MAX]:
            if made and not progress.may_start():
                break
            error = yield from shared.call(argument)
            progress.ended(units, error)
            made += 1
            if error is None:
                done.append(argument)
            size_bytes += len(argument.payload_text)
            if shared.is_cut or size_bytes >= BYTES_MAX or self._clock() - begun >= seconds_max:
                break
        ended = self._clock()
        yield from shared.commit(done)
        self._around_seconds = begun - began + self._clock() - ended
        return made


class Sharing:
    """Runs the tasks of one slot, with a plain function that takes its unit or units and a psycopg.Connection."""

    def __init__(
        self, function: Callable[[Any, Any], Any], database: Database, clock: Callable[[], float] = now
    ) -> None:
        """Take the handler, and where its job is; the connection is made when it is first needed."""
        self._slot = _Slot(function, database, clock, is_async=False)

    def __call__(self, progress: Progress) -> None:
        """Run one task."""
        steps.run(self._slot.run(progress))

    def close(self) -> None:
        """Close the connection."""
        steps.run(self._slot.close())


class SharingAsync:
    """The same for a coroutine function, with a psycopg.AsyncConnection."""

    def __init__(
        self, function: Callable[[Any, Any], Any], database: Database, clock: Callable[[], float] = now
    ) -> None:
        """Take the handler, and where its job is; the connection is made when it is first needed."""
        self._slot = _Slot(function, database, clock, is_async=True)

    async def __call__(self, progress: Progress) -> None:
        """Run one task."""
        await steps.run_async(self._slot.run(progress))

    async def aclose(self) -> None:
        """Close the connection."""
        await steps.run_async(self._slot.close())
