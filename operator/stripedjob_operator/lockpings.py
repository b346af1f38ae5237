"""Whether the lock backends answer: each is asked once a while by a task of its own, and waits for none but itself."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from stripedjob.locks import LockBackend, LockError, open_lock
from stripedjob.observe.log import logger
from stripedjob.settings import lock_settings
from stripedjob.spec.model import StripedJob
from stripedjob_operator.observed import LOCK_PENDING, Key, Problem
from stripedjob_operator.shared import Shared, end_if_cancelled
from stripedjob_operator.urls import REDIS_FORM, UrlError, check_postgres, check_redis
from stripedjob_operator.words import lock_problem

PING_SECONDS = 10.0  # between two pings of one backend
RETRY_SECONDS = 3.0  # the same of one that did not answer
CLOSE_SECONDS_MAX = 2.0
PING_SECONDS_MAX = 8.0  # more than the backend's own bound on a call

Place = tuple[str, str, str]  # backend, URL and schema


@dataclass(slots=True)
class Pinged:
    """One lock backend. `problem`: LOCK_PENDING until it was asked once."""

    backend: LockBackend = field(repr=False)
    where: str
    changed: Callable[[Key], None]
    users: set[Key] = field(default_factory=set)
    problem: Problem | None = LOCK_PENDING

    async def run(self) -> None:
        """Ping again and again, until cancelled."""
        try:
            while True:
                self._tell(await self._ping())
                await asyncio.sleep(RETRY_SECONDS if self.problem else PING_SECONDS)
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS_MAX):
                    await self.backend.close()

    def leave(self, key: Key) -> None:
        """Forget a StripedJob."""
        self.users.discard(key)

    async def _ping(self) -> Problem | None:
        try:
            async with asyncio.timeout(PING_SECONDS_MAX):
                await self.backend.ping()
        except Exception as error:  # whatever listens there may answer anything
            end_if_cancelled()
            return lock_problem(error, self.where)
        return None

    def _tell(self, problem: Problem | None) -> None:
        if problem == self.problem:
            return
        if problem:
            logger.warning("a lock backend cannot be used", extra={"error": problem.message})
        self.problem = problem
        for key in self.users:
            self.changed(key)


class LockPings(Shared[Place, Pinged]):
    """All lock backends that StripedJobs name. `changed`: whom to tell that a StripedJob is to be reconciled."""

    def __init__(self, changed: Callable[[Key], None]) -> None:
        """Begin with none."""
        super().__init__()
        self._changed = changed

    def problem(self, key: Key, job: StripedJob, url: str) -> Problem | None:
        """Say what is wrong with a StripedJob's lock backend; LOCK_PENDING as long as it was not asked."""
        place = (job.spec.lock.backend, url, job.spec.pool.sql_schema)
        try:
            return self.of(key, place, lambda: _opened(job, url, self._changed)).problem
        except UrlError as error:
            self.leave(key)
            return Problem("LockConfig", f"the URL of the lock backend cannot be used: {error}")


def _opened(job: StripedJob, url: str, changed: Callable[[Key], None]) -> Pinged:
    where = check_redis(url) if job.spec.lock.backend == "Redis" else check_postgres(url)
    try:
        return Pinged(open_lock(lock_settings(job, url)), where, changed)
    except LockError:
        raise UrlError(REDIS_FORM) from None
