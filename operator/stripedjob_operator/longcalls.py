"""A database's calls that may take long: schedules' queries, which are anybody's, and the removal of a job's units.

They have a task, a deadline and a connection of their own, which is there while they run; what comes of them is
remembered until it is asked for. One that is slow keeps others of its kind in its own database waiting, nothing else.
"""

import asyncio
import datetime as dt
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from stripedjob.observe.log import logger
from stripedjob.pool.client.bounded import BoundedPool
from stripedjob.pool.client.operator import OperatorPool
from stripedjob.pool.errors import PoolError
from stripedjob.pool.types import JobSettings
from stripedjob.schedule import latest_due, schedule_key
from stripedjob.spec.model import Schedule
from stripedjob_operator.observed import Key, Problem
from stripedjob_operator.shared import end_if_cancelled
from stripedjob_operator.words import pool_problem, schedule_problem

SCHEDULE_SECONDS_MAX = 60.0  # of one schedule's query
SCHEDULE_RETRY_SECONDS = 10.0
CLEAR_SECONDS_MAX = 30.0
CLEAR_RETRY_SECONDS = 2.0
CONNECT_RETRY_SECONDS = 3.0


@dataclass(slots=True, kw_only=True)
class _Timed:
    """`at`: from when on it is to be done, on the monotonic clock; `problem`: why it was not, the last time."""

    at: float = 0.0
    problem: Problem | None = None


@dataclass(slots=True)
class Clock(_Timed):
    """One job's schedule."""

    schedule: Schedule
    job_id: int
    fired: dt.datetime | None = None  # the last period that was served
    doubted: tuple[dt.datetime, float] | None = None  # one that another may be at, and since when it is
    scheduled_at: str | None = None  # when it enqueued last, RFC 3339


@dataclass(slots=True)
class Clearing(_Timed):
    """The removal of what one job has in the pool."""

    settings: JobSettings
    is_done: bool = False


@dataclass(slots=True)
class LongCalls:
    """Those of one database. `changed`: whom to tell that a StripedJob is to be reconciled.

    `urls`: with which schedules are served, by job; removals have the operator's own.
    """

    url: str = field(repr=False)
    schema: str
    where: str
    changed: Callable[[Key], None]
    urls: dict[Key, str] = field(default_factory=dict, repr=False)
    clocks: dict[Key, Clock] = field(default_factory=dict)
    _clearings: dict[Key, Clearing] = field(default_factory=dict)
    _wish: asyncio.Event = field(default_factory=asyncio.Event)

    def schedule(self, key: Key, schedule: Schedule | None, job_id: int) -> None:
        """Have a job's schedule followed, or none."""
        clock = self.clocks.get(key)
        if schedule is None:
            self.clocks.pop(key, None)
        elif clock is None:
            self.clocks[key] = Clock(schedule, job_id)
            self._wish.set()
        elif (clock.schedule, clock.job_id) != (schedule, job_id):  # its problem stays until it is seen to be solved
            self.clocks[key] = Clock(schedule, job_id, problem=clock.problem, scheduled_at=clock.scheduled_at)
            self._wish.set()

    def clear(self, key: Key, settings: JobSettings) -> Clearing:
        """Have removed what a job has in the pool; returns how far that is."""
        self.clocks.pop(key, None)
        if key not in self._clearings:
            self._clearings[key] = Clearing(settings)
            self._wish.set()
        return self._clearings[key]

    def leave(self, key: Key) -> None:
        """Forget a StripedJob."""
        for known in (self.clocks, self._clearings, self.urls):
            known.pop(key, None)

    async def run(self) -> None:
        """Do what is due, until cancelled."""
        while True:
            self._wish.clear()
            if self._due():
                await self._serve()
                continue
            timed: tuple[_Timed, ...] = (*self.clocks.values(), *self._clearings_open().values())
            at = min((one.at for one in timed), default=None)
            with suppress(TimeoutError):
                async with asyncio.timeout(None if at is None else max(0.0, at - time.monotonic())):
                    await self._wish.wait()

    def _clearings_open(self) -> dict[Key, Clearing]:
        return {key: one for key, one in self._clearings.items() if not one.is_done}

    def _due(self) -> list[Key]:
        """Return the schedules that are due now, and the removals."""
        now, today = time.monotonic(), dt.datetime.now(dt.UTC)
        for clock in self.clocks.values():
            if clock.at <= now and clock.fired == latest_due(clock.schedule, today):
                clock.at = _next_minute()
        tasks: tuple[tuple[Key, _Timed], ...] = (*self._clearings_open().items(), *self.clocks.items())
        return [key for key, one in tasks if one.at <= now]

    async def _serve(self) -> None:
        """Connect and do what is due over the first one's URL, or as much of that as the connection bears."""
        url = self._url_of(self._due()[0])
        try:
            async with BoundedPool.open(url, self.schema, OperatorPool) as pool:
                for key in [key for key in self._due() if self._url_of(key) == url]:
                    if not pool.is_usable:
                        return  # the rest with another one
                    if key in self._clearings:
                        await self._clear(pool, key, self._clearings[key])
                    elif key in self.clocks:
                        await self._fire(pool, key, self.clocks[key])
        except Exception as error:  # a server may answer anything
            end_if_cancelled()
            self._put_off(url, pool_problem(error, self.where))

    def _put_off(self, url: str, problem: Problem) -> None:
        """Try what goes to this URL again in a while."""
        again = time.monotonic() + CONNECT_RETRY_SECONDS
        for key, clearing in self._clearings_open().items():
            if self._url_of(key) == url:
                clearing.at, clearing.problem = again, problem
        for key, clock in self.clocks.items():
            if self._url_of(key) == url:
                clock.at = max(clock.at, again)
                if url != self.url:  # else the database's own task says so
                    self._tell(key, clock, problem)

    def _url_of(self, key: Key) -> str:
        """Return what a job's next call goes to."""
        return self.url if key in self._clearings else self.urls.get(key, self.url)

    async def _fire(self, pool: BoundedPool[OperatorPool], key: Key, clock: Clock) -> None:
        """Enqueue what the schedule asks for."""
        schedule = clock.schedule
        due = latest_due(schedule, dt.datetime.now(dt.UTC))
        query = schedule.enqueue.sql if schedule.enqueue else None
        try:
            units = await pool.call(
                lambda one: one.fire(clock.job_id, schedule_key(schedule), due, query), SCHEDULE_SECONDS_MAX
            )
        except PoolError as error:
            clock.at = time.monotonic() + SCHEDULE_RETRY_SECONDS
            self._tell(key, clock, schedule_problem(error, SCHEDULE_SECONDS_MAX, self._url_of(key)))
            return
        self._served(clock, due, is_ours=units is not None)
        if units is not None:
            clock.scheduled_at = due.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
            logger.info("scheduled", extra={"job": "/".join(key), "units": units, "due": clock.scheduled_at})
            self.changed(key)
        self._tell(key, clock, None)

    def _served(self, clock: Clock, due: dt.datetime, *, is_ours: bool) -> None:
        """Take a period for served: at once if by us, else when nobody can be at it any more, who might yet fail."""
        now = time.monotonic()
        if clock.doubted is None or clock.doubted[0] != due:
            clock.doubted = (due, now)
        if is_ours or now - clock.doubted[1] >= SCHEDULE_SECONDS_MAX:
            clock.fired = due
        else:
            clock.at = _next_minute()

    def _tell(self, key: Key, clock: Clock, problem: Problem | None) -> None:
        if problem != clock.problem:
            clock.problem = problem
            self.changed(key)

    async def _clear(self, pool: BoundedPool[OperatorPool], key: Key, clearing: Clearing) -> None:
        settings = clearing.settings
        try:
            await pool.call(lambda one: one.clear(one.apply(settings)), CLEAR_SECONDS_MAX)
        except PoolError as error:
            clearing.at = time.monotonic() + CLEAR_RETRY_SECONDS
            clearing.problem = pool_problem(error, self.where)
        else:
            clearing.is_done, clearing.problem = True, None
        self.changed(key)


def _next_minute() -> float:
    """Return when the next minute begins, the unit of cron, on the monotonic clock."""
    return time.monotonic() + 60.0 - time.time() % 60.0 + 0.05
