"""The pool's part of a reconcile: where it is, what is known and wanted of it. Nothing here waits for one."""

from dataclasses import dataclass

from stripedjob.settings import job_settings
from stripedjob.spec.model import StripedJob
from stripedjob_operator.databases import Database, Databases
from stripedjob_operator.lockpings import LockPings
from stripedjob_operator.longcalls import Clearing
from stripedjob_operator.observed import Key, Problem
from stripedjob_operator.secrets import SecretError, Secrets
from stripedjob_operator.urls import UrlError, check_postgres


@dataclass(frozen=True, slots=True)
class Pools:
    """Where pools and locks are, by the Secrets that StripedJobs name."""

    secrets: Secrets
    databases: Databases
    locks: LockPings

    async def find(self, key: Key, job: StripedJob) -> tuple[Database | None, Problem | None]:
        """Return the pool's database, or why it cannot be known; raises ApiError, ApiUnreachableError."""
        assert job.spec.pool.secret_ref is not None  # noqa: S101 - a rule of the CRD
        try:
            url = own_url = await self.secrets.value(job, job.spec.pool.secret_ref)
            if job.spec.pool.operator_secret_ref is not None:
                check_postgres(url)
                own_url = await self.secrets.value(job, job.spec.pool.operator_secret_ref)
            database = self.databases.database(key, own_url, job.spec.pool.sql_schema)
            # Invariant: what a StripedJob's author wrote runs with its workers' role, never with the operator's.
            database.long.urls[key] = url
        except SecretError as error:
            return None, error.problem
        except UrlError as error:
            self.databases.leave(key)
            return None, Problem("PoolConfig", f"the URL of the pool cannot be used: {error}")
        return database, None

    async def check_lock(self, key: Key, job: StripedJob) -> Problem | None:
        """Say what is known to be wrong with the lock backend; raises ApiError, ApiUnreachableError."""
        ref = job.spec.lock.secret_ref
        if ref is None:  # backend Postgres, in the pool's own database
            self.locks.leave(key)
            return None
        try:
            return self.locks.problem(key, job, await self.secrets.value(job, ref))
        except SecretError as error:
            return error.problem

    async def clear(self, key: Key, job: StripedJob) -> Clearing:
        """Have removed what the job has in its pool, and say how far that is; raises ApiError, ApiUnreachableError."""
        database, problem = await self.find(key, job)
        if database is None:
            return Clearing(job_settings(job), problem=problem)
        database.want(key, None)
        return database.long.clear(key, job_settings(job))

    def forget(self, key: Key) -> None:
        """Forget a StripedJob that is gone."""
        self.secrets.forget(key)
        self.databases.leave(key)
        self.locks.leave(key)
