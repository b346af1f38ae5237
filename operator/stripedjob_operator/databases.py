"""The pools' databases: a task each, which has the jobs in its pool as they are wanted, and reads their numbers.

A reconcile never waits for a database. It says what it wants and reads what is known; the task has the StripedJob
reconciled again when it knows more. What may take long, the task of longcalls.py does, on a connection of its own: a
database that is slow or hung costs its own StripedJobs their numbers, and no other anything.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from stripedjob.observe.log import logger
from stripedjob.pool.client.bounded import BoundedPool
from stripedjob.pool.client.operator import Measures, OperatorPool
from stripedjob.pool.client.viewer import JobStatus
from stripedjob.pool.errors import PoolError, PoolRefusedError, PoolSchemaError
from stripedjob.pool.types import JobSettings
from stripedjob_operator.longcalls import LongCalls
from stripedjob_operator.observed import Key, Problem
from stripedjob_operator.shared import Shared, end_if_cancelled
from stripedjob_operator.urls import check_postgres
from stripedjob_operator.words import origin, pool_problem

TICK_SECONDS = 1.5
CALLED_SECONDS = 0.1  # between two ticks where the pool calls: work has come for a job without workers
CALL_SECONDS_MAX = 10.0
MIGRATE_SECONDS_MAX = 600.0  # a table may be rewritten
RETRY_SECONDS = 3.0  # between two tries to reach a database that is away, or to have a job in it
RATE_SECONDS = 10.0  # over which units per second are measured
MEASURE_SECONDS = 10.0  # between two looks at what is measured of jobs, which costs some index look-ups of each
BUSY_SECONDS_MAX = 30.0  # how old an answer to the question which workers are busy may be


@dataclass(slots=True)
class Backlog:
    """One job's row in a pool, as it was last read. `rate`: units done a second."""

    settings: JobSettings
    job_id: int
    status: JobStatus
    rate: float = 0.0
    busy: tuple[float, frozenset[str]] | None = None  # when it was asked, and which workers had a slot
    measures: Measures | None = None  # for /metrics alone; None: not read yet
    _since: tuple[float, int] | None = None

    def take(self, status: JobStatus, now: float) -> bool:
        """Take new numbers; False: nothing has changed."""
        if self._since is None:
            self._since = (now, status.total_done)
        seconds = now - self._since[0]
        rate = self.rate
        if seconds >= RATE_SECONDS:
            rate = (status.total_done - self._since[1]) / seconds
            self._since = (now, status.total_done)
        changed = status != self.status or rate != self.rate
        self.status, self.rate = status, rate
        return changed


@dataclass(slots=True)
class Database:
    """A pool: a database and a schema in it. `changed`: whom to tell that a StripedJob is to be reconciled."""

    url: str = field(repr=False)
    schema: str
    where: str
    changed: Callable[[Key], None]
    users: set[Key] = field(default_factory=set)
    jobs: dict[Key, Backlog] = field(default_factory=dict)
    problem: Problem | None = None
    long: LongCalls = field(init=False)
    _wanted: dict[Key, JobSettings] = field(default_factory=dict)
    _open: dict[Key, float] = field(default_factory=dict)  # jobs to be made so, and from when on
    _refused: dict[Key, Problem] = field(default_factory=dict)
    _asked: set[Key] = field(default_factory=set)  # jobs whose busy workers are asked for
    _wish: asyncio.Event = field(default_factory=asyncio.Event)
    _is_called: bool = False
    _measure_at: float = 0.0

    def __post_init__(self) -> None:
        """Have its other task."""
        self.long = LongCalls(self.url, self.schema, self.where, self.changed)

    def want(self, key: Key, settings: JobSettings | None) -> None:
        """Have a job in the pool so; None: leave it as it is."""
        if settings is None:
            self._wanted.pop(key, None)
            self._open.pop(key, None)
        elif self._wanted.get(key) != settings:
            self._wanted[key] = settings
            self._open[key] = 0.0
            self._wish.set()

    def problem_of(self, key: Key) -> Problem | None:
        """Say why a job's numbers are not known, or it is not in the pool as it is wanted."""
        return self.problem or self._refused.get(key)

    def busy(self, key: Key) -> frozenset[str] | None:
        """Return the names of workers with a slot; None: ask again when the StripedJob is told that they are known.

        An answer is given once.
        """
        backlog = self.jobs[key]
        answer, backlog.busy = backlog.busy, None
        if answer and time.monotonic() - answer[0] < BUSY_SECONDS_MAX:
            return answer[1]
        self._asked.add(key)
        self._wish.set()
        return None

    def leave(self, key: Key) -> None:
        """Forget a StripedJob."""
        self.users.discard(key)
        for known in (self.jobs, self._wanted, self._open, self._refused):
            known.pop(key, None)
        self._asked.discard(key)
        self.long.leave(key)

    async def run(self) -> None:
        """Do what is wanted and read the numbers once a tick, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.long.run())
            while True:
                while not self._wanted:  # nobody connects for a StripedJob that is not to be in the pool
                    self._wish.clear()
                    await self._wish.wait()
                self._tell(await self._serve())
                await asyncio.sleep(RETRY_SECONDS)

    async def _serve(self) -> Problem:
        """Connect and go on until that fails; returns why."""
        try:
            async with BoundedPool.open(self.url, self.schema, OperatorPool) as pool:
                # Invariant: before any worker that needs it, since workers start when the job is in the pool.
                applied = await pool.call(OperatorPool.migrate, MIGRATE_SECONDS_MAX)
                if applied:
                    logger.info("migrated", extra={"schema": self.schema, "versions": applied})
                await pool.listen("operator", self._called)
                while True:
                    await self._tick(pool)
        except Exception as error:  # a server may answer anything: that ends this connection, not this task
            end_if_cancelled()
            if not isinstance(error, PoolError):
                logger.error("a pool answers strangely", extra={"error": origin(error)})
            return pool_problem(error, self.where)

    async def _tick(self, pool: BoundedPool[OperatorPool]) -> None:
        """Read all numbers, and until that is due again, do what is wanted."""
        began = time.monotonic()
        end = began + TICK_SECONDS
        self._is_called = False
        if self.jobs:
            await self._read(pool)
        while time.monotonic() < end:
            self._wish.clear()
            if self._is_called:
                end = min(end, began + CALLED_SECONDS)
            if not await self._make_so(pool, end):
                return
            self._tell(None)
            with suppress(TimeoutError):
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + end - time.monotonic()):
                    await self._wish.wait()

    def _called(self) -> None:
        """Read the numbers soon: something was put in for a job without workers."""
        self._is_called = True
        self._wish.set()

    async def _read(self, pool: BoundedPool[OperatorPool]) -> None:
        jobs = {backlog.job_id: key for key, backlog in self.jobs.items()}
        statuses = await pool.call(lambda one: one.tend(list(jobs)), CALL_SECONDS_MAX)
        self._tell(None)
        now = time.monotonic()
        for status in statuses:
            key = jobs.pop(status.id)
            if key in self.jobs and self.jobs[key].take(status, now):
                self.changed(key)
        await pool.call(lambda one: one.clean([backlog.job_id for backlog in self.jobs.values()]), CALL_SECONDS_MAX)
        if now >= self._measure_at:
            await self._measure(pool)
            self._measure_at = now + MEASURE_SECONDS
        for key in jobs.values():  # somebody removed them
            self.jobs.pop(key, None)
            if key in self._wanted:
                self._open[key] = 0.0

    async def _measure(self, pool: BoundedPool[OperatorPool]) -> None:
        jobs = {backlog.job_id: backlog for backlog in self.jobs.values()}
        for one in await pool.call(lambda there: there.measures(list(jobs)), CALL_SECONDS_MAX):
            jobs[one.job_id].measures = one

    async def _make_so(self, pool: BoundedPool[OperatorPool], end: float) -> bool:
        """Do what is wanted; False: there was no time for all of it."""
        now = time.monotonic()
        for key in [key for key, at in self._open.items() if at <= now]:
            if key in self._wanted:
                await self._apply(pool, key, self._wanted[key])
            if time.monotonic() >= end:
                return False
        while self._asked:
            key = self._asked.pop()
            if key in self.jobs:
                await self._ask(pool, key, self.jobs[key])
        return True

    async def _ask(self, pool: BoundedPool[OperatorPool], key: Key, backlog: Backlog) -> None:
        workers = await pool.call(lambda one: one.workers(backlog.job_id), CALL_SECONDS_MAX)
        backlog.busy = (time.monotonic(), frozenset(one.name for one in workers if one.working))
        self.changed(key)

    async def _apply(self, pool: BoundedPool[OperatorPool], key: Key, settings: JobSettings) -> None:
        try:
            status = await pool.call(lambda one: one.status(one.apply(settings)), CALL_SECONDS_MAX)
        except PoolError as error:
            if isinstance(error, PoolRefusedError | PoolSchemaError) or not pool.is_usable:
                raise
            if key not in self._wanted:  # else it is this job's alone: its row is locked, or its content refused
                return
            self._refused[key] = pool_problem(error, self.where)
            self._open[key] = time.monotonic() + RETRY_SECONDS
            logger.warning(
                "a job is not in its pool", extra={"job": "/".join(key), "error": self._refused[key].message}
            )
            self.changed(key)
            return
        if self._wanted.get(key) != settings:
            return  # it is gone, or wanted otherwise by now
        self._open.pop(key, None)
        self._refused.pop(key, None)
        known = self.jobs.get(key)
        if known is None or known.job_id != status.id:
            known = self.jobs[key] = Backlog(settings, status.id, status)
        known.settings = settings
        known.take(status, time.monotonic())
        self.changed(key)

    def _tell(self, problem: Problem | None) -> None:
        if problem == self.problem:
            return
        if problem and not self.problem:
            logger.warning("a pool cannot be read", extra={"error": problem.message})
        self.problem = problem
        for key in self.users:
            self.changed(key)


class Databases(Shared[tuple[str, str], Database]):
    """All databases that StripedJobs name. `changed`: whom to tell that a StripedJob is to be reconciled."""

    def __init__(self, changed: Callable[[Key], None]) -> None:
        """Begin with none."""
        super().__init__()
        self._changed = changed

    def database(self, key: Key, url: str, schema: str) -> Database:
        """Return the database of a StripedJob, which uses no other from now on; raises UrlError."""
        return self.of(key, (url, schema), lambda: Database(url, schema, check_postgres(url), self._changed))
