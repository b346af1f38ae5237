"""What the pools have to do: one connection a database and one query a tick, however many StripedJobs share it.

psycopg's calls block, so each database's run in a thread, one at a time. Locks are pinged, each backend once a while.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from typing import Self, TypeVar

from stripedjob.locks import LockBackend, LockError, open_lock
from stripedjob.pool.admin import JobStatus, PoolAdmin
from stripedjob.pool.errors import PoolError, PoolRefusedError, PoolSchemaError, PoolUnreachableError
from stripedjob.pool.types import JobSettings
from stripedjob.runtime.log import logger
from stripedjob.settings import lock_settings
from stripedjob.spec.model import StripedJob
from stripedjob_operator.observed import LOCK_PENDING, Key, Problem

TICK_SECONDS = 1.5
THREADS_MAX = 16
RETRY_SECONDS = 3.0  # between two tries to reach a database or a lock backend that is away
PING_SECONDS = 10.0
RATE_SECONDS = 10.0  # over which units per second are measured

T = TypeVar("T")


@dataclass(slots=True)
class Backlog:
    """One job's row in a pool, as it was last read. `rate`: units done a second."""

    settings: JobSettings
    job_id: int
    status: JobStatus | None = None
    rate: float = 0.0
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
    """A pool: a database and a schema in it, brought to this version's schema at the first call."""

    url: str = field(repr=False)
    schema: str
    threads: ThreadPoolExecutor
    jobs: dict[Key, Backlog] = field(default_factory=dict)
    users: set[Key] = field(default_factory=set)
    problem: Problem | None = None
    next_try: float = 0.0
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _admin: PoolAdmin | None = None
    _stack: ExitStack = field(default_factory=ExitStack)

    async def call(self, work: Callable[[PoolAdmin], T]) -> T:
        """Run `work` in a thread, with the connection. Raises PoolError, and remembers it as the problem."""
        async with self._turn:
            if time.monotonic() < self.next_try and self.problem is not None:
                raise PoolUnreachableError(self.problem.message)
            try:
                result = await asyncio.get_running_loop().run_in_executor(self.threads, self._work, work)
            except (PoolUnreachableError, PoolRefusedError, PoolSchemaError) as error:
                self.problem = Problem(_reason(error), str(error))
                self.next_try = time.monotonic() + RETRY_SECONDS
                self._close()
                raise
            self.problem = None
            return result

    def _work(self, work: Callable[[PoolAdmin], T]) -> T:
        if self._admin is None:
            self._admin = self._stack.enter_context(PoolAdmin.open(self.url, self.schema))
            # Invariant: before any worker that needs it, since workers start after `apply`.
            applied = self._admin.migrate()
            if applied:
                logger.info("migrated", extra={"schema": self.schema, "versions": applied})
        return work(self._admin)

    def _close(self) -> None:
        self._admin = None
        self._stack.close()

    async def close(self) -> None:
        """End the connection."""
        async with self._turn:
            self._close()


def _reason(error: PoolError) -> str:
    match error:
        case PoolRefusedError():
            return "PoolRefused"
        case PoolSchemaError():
            return "PoolSchema"
    return "PoolUnreachable"


@dataclass(slots=True)
class _Lock:
    backend: LockBackend
    users: set[Key]
    problem: Problem | None = LOCK_PENDING


class Backlogs:
    """All databases and lock backends that StripedJobs name, and the ticks that read them."""

    def __init__(self, changed: Callable[[Key], None]) -> None:
        """Take whom to tell that a StripedJob is to be looked at."""
        self._changed = changed
        self._threads = ThreadPoolExecutor(THREADS_MAX, "pool")
        self._databases: dict[tuple[str, str], Database] = {}
        self._database_of: dict[Key, tuple[str, str]] = {}
        self._locks: dict[tuple[str, str], _Lock] = {}
        self._lock_of: dict[Key, tuple[str, str]] = {}
        self._new_lock = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Connect with the first call, not here."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close all connections."""
        async with AsyncExitStack() as stack:
            stack.callback(self._threads.shutdown, wait=False)
            for database in self._databases.values():
                stack.push_async_callback(database.close)
            for lock in self._locks.values():
                stack.push_async_callback(lock.backend.close)

    def database(self, key: Key, url: str, schema: str) -> Database:
        """Give the database of a StripedJob, which uses no other from now on."""
        place = (url, schema)
        if self._database_of.get(key) != place:
            self._leave_database(key)
            self._database_of[key] = place
            self._databases.setdefault(place, Database(url, schema, self._threads)).users.add(key)
        return self._databases[place]

    def lock_problem(self, key: Key, job: StripedJob, url: str) -> Problem | None:
        """Say what is wrong with a StripedJob's lock backend; LOCK_PENDING as long as it was not asked."""
        place = (job.spec.lock.backend, url)
        if self._lock_of.get(key) != place:
            self._leave_lock(key)
            if place not in self._locks:
                self._locks[place] = _Lock(open_lock(lock_settings(job, url)), set())
                self._new_lock.set()
            self._lock_of[key] = place
            self._locks[place].users.add(key)
        return self._locks[place].problem

    def forget(self, key: Key) -> None:
        """Forget a StripedJob; what none uses any more is closed at the next tick."""
        self._leave_database(key)
        self._leave_lock(key)

    def _leave_database(self, key: Key) -> None:
        place = self._database_of.pop(key, None)
        if place is not None:
            self._databases[place].users.discard(key)
            self._databases[place].jobs.pop(key, None)

    def _leave_lock(self, key: Key) -> None:
        place = self._lock_of.pop(key, None)
        if place is not None:
            self._locks[place].users.discard(key)

    async def tick_forever(self) -> None:
        """Read every database once a tick."""
        while True:
            began = time.monotonic()
            for place, database in list(self._databases.items()):
                if not database.users:
                    del self._databases[place]
                    await database.close()
            await asyncio.gather(*(self._tick(database) for database in list(self._databases.values())))
            await asyncio.sleep(max(0.1, began + TICK_SECONDS - time.monotonic()))

    async def _tick(self, database: Database) -> None:
        if time.monotonic() < database.next_try:
            return
        before = database.problem
        jobs = {backlog.job_id: (key, backlog) for key, backlog in database.jobs.items()}
        if not jobs and before is None:
            return
        try:
            statuses = await database.call(lambda admin: admin.tend(list(jobs)))
        except PoolError as error:
            if database.problem is None:
                logger.warning("a pool cannot be read", extra={"error": str(error)})
            statuses = []
        if database.problem != before:
            for key in database.users:
                self._changed(key)
        now = time.monotonic()
        for status in statuses:
            key, backlog = jobs[status.id]
            if backlog.take(status, now):
                self._changed(key)

    async def ping_forever(self) -> None:
        """Ping every lock backend, those with a problem more often."""
        while True:
            self._new_lock.clear()
            for place, lock in list(self._locks.items()):
                if not lock.users:
                    del self._locks[place]
                    await lock.backend.close()
            await asyncio.gather(*(self._ping(lock) for lock in list(self._locks.values())))
            hurry = any(lock.problem for lock in self._locks.values())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY_SECONDS if hurry else PING_SECONDS):
                    await self._new_lock.wait()

    async def _ping(self, lock: _Lock) -> None:
        problem = None
        try:
            await lock.backend.ping()
        except LockError as error:
            problem = Problem("LockUnreachable", str(error))
        if problem != lock.problem:
            lock.problem = problem
            for key in lock.users:
                self._changed(key)
