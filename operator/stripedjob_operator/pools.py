"""The pool's part of a look at a StripedJob: find it → check its lock → settle the job in it → fire the schedule."""

import datetime as dt
import time
from dataclasses import dataclass

from stripedjob.locks import LockError
from stripedjob.pool.admin import JobStatus, PoolAdmin
from stripedjob.pool.errors import PoolError
from stripedjob.runtime.log import logger
from stripedjob.schedule import latest_due, schedule_key
from stripedjob.settings import job_settings
from stripedjob.spec.model import StripedJob
from stripedjob_operator.backlog import Backlog, Backlogs, Database
from stripedjob_operator.memory import Memory
from stripedjob_operator.observed import Key, Problem
from stripedjob_operator.secrets import SecretError, Secrets

SCHEDULE_RETRY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Pools:
    """Where pools and locks are, by the Secrets that StripedJobs name."""

    secrets: Secrets
    backlogs: Backlogs

    async def find(self, key: Key, job: StripedJob) -> tuple[Database | None, Problem | None]:
        """Give the pool's database, or why it cannot be known."""
        assert job.spec.pool.secret_ref is not None  # noqa: S101 - a rule of the CRD
        try:
            url = await self.secrets.value(job, job.spec.pool.secret_ref)
        except SecretError as error:
            return None, error.problem
        return self.backlogs.database(key, url, job.spec.pool.sql_schema), None

    async def check_lock(self, key: Key, job: StripedJob) -> Problem | None:
        """Say what is known to be wrong with the lock backend."""
        ref = job.spec.lock.secret_ref
        if ref is None:  # backend Postgres, in the pool's own database
            return None
        try:
            return self.backlogs.lock_problem(key, job, await self.secrets.value(job, ref))
        except SecretError as error:
            return error.problem
        except LockError as error:
            return Problem("LockConfig", str(error))

    async def clear(self, key: Key, job: StripedJob) -> None:
        """Remove what the job has in its pool; raises PoolError, SecretError."""
        database, problem = await self.find(key, job)
        if database is None:
            raise SecretError(problem or Problem("SecretNotFound", ""))
        settings = job_settings(job)

        def clear(admin: PoolAdmin) -> int:
            return admin.clear(admin.apply(settings))

        await database.call(clear)

    def forget(self, key: Key) -> None:
        """Forget a StripedJob that is gone."""
        self.secrets.forget(key)
        self.backlogs.forget(key)


async def settle(key: Key, job: StripedJob, database: Database) -> Problem | None:
    """Bring the job in the pool to the spec, and read its numbers; returns why that could not be done."""
    wanted = job_settings(job)
    known = database.jobs.get(key)
    if known is not None and known.settings == wanted:
        return None

    def apply(admin: PoolAdmin) -> JobStatus:
        return admin.status(admin.apply(wanted))

    try:
        status = await database.call(apply)
    except PoolError as error:
        return database.problem or Problem("PoolRefused", str(error))
    if known is None or known.job_id != status.id:
        known = database.jobs[key] = Backlog(wanted, status.id)
    known.settings = wanted
    known.take(status, time.monotonic())
    return None


async def fire(memory: Memory, job: StripedJob, database: Database) -> float | None:
    """Enqueue what the schedule asks for; returns after how many seconds to look again."""
    schedule, backlog = job.spec.schedule, database.jobs.get(memory.key)
    if schedule is None or job.spec.suspend or backlog is None:
        memory.schedule_problem = None
        return None
    now = dt.datetime.now(dt.UTC)
    due = latest_due(schedule, now)
    again = 60.0 - now.timestamp() % 60.0 + 0.05  # the next minute, the unit of cron
    if due == memory.fired or time.monotonic() < memory.fire_again_at:
        return again
    query, job_id = (schedule.enqueue.sql if schedule.enqueue else None), backlog.job_id
    try:
        units = await database.call(lambda admin: admin.fire(job_id, schedule_key(schedule), due, query))
    except PoolError as error:
        memory.fire_again_at = time.monotonic() + SCHEDULE_RETRY_SECONDS
        if not database.problem:  # else it is not the query's
            memory.schedule_problem = Problem("ScheduleFailed", f"spec.schedule.enqueue.sql: {error}")
        return SCHEDULE_RETRY_SECONDS
    memory.fired, memory.schedule_problem = due, None
    if units is not None:
        memory.scheduled_at = due.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
        logger.info("scheduled", extra={"job": "/".join(memory.key), "units": units, "due": memory.scheduled_at})
    return again
