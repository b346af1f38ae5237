"""What the operator, and the supervisor on one machine, do to a pool: have jobs in it, keep them up, fire schedules.

One round trip a call. Errors are the pool's own (errors.py).
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import psycopg
from psycopg import sql

from stripedjob.pool.client.viewer import JobStatus, ViewerPool
from stripedjob.pool.connection import foreign_errors
from stripedjob.pool.errors import PoolError, PoolUnreachableError
from stripedjob.pool.install.migrate import migrate
from stripedjob.pool.names import in_query
from stripedjob.pool.types import JobSettings

CLEARED_UNITS = 5_000  # in one transaction


@dataclass(frozen=True, slots=True)
class Measures:
    """What is measured of a job: how old its oldest claimable unit is, None where there is none, and its times so far.

    Counts are by the buckets of stripedjob.times, since the job was made; [] before the first.
    """

    job_id: int
    oldest_seconds: float | None = None
    waits: list[int] = field(default_factory=list)
    wait_seconds: float = 0.0
    runs: list[int] = field(default_factory=list)
    run_seconds: float = 0.0


class OperatorPool(ViewerPool):
    """The calls of the operator, which sees the pool as well."""

    def migrate(self) -> list[int]:
        """Bring the schema to this version; returns the versions applied."""
        with foreign_errors():
            return migrate(self.conn, self.schema)

    def apply(self, job: JobSettings) -> int:
        """Make the job or update it in place; returns its id."""
        return int(self._value(f"apply_job({', '.join(['%s'] * len(fields(job)))})", job.as_values()))

    def tend(self, job_ids: Sequence[int]) -> list[JobStatus]:
        """Keep up the jobs that have no workers to do it, and give the numbers of all of these: one round trip."""
        return self._statuses("tend", job_ids)

    def measures(self, job_ids: Sequence[int]) -> list[Measures]:
        """Return what is measured of these jobs, in one query."""
        query = sql.SQL("select * from {}(%s::int[])").format(in_query(self.schema, "measures"))
        with foreign_errors():
            return [Measures(*row) for row in self.conn.execute(query, [list(job_ids)])]

    def fire(self, job_id: int, schedule: str, due: dt.datetime, query: str | None) -> int | None:
        """Enqueue what a schedule asks for at `due`; returns how many units, None where it is or was done.

        The first call with another `schedule` than before begins it, and enqueues nothing. Raises PoolError where the
        query fails, with Postgres' words; what is not the query's is PoolUnreachableError.
        """
        try:
            found = self._value("fire(%s, %s, %s, %s)", [job_id, schedule, due, query])
        except PoolError as error:
            cause = error.__cause__
            if isinstance(cause, psycopg.errors.QueryCanceled):
                raise PoolError("the query took too long, and was ended") from error
            if isinstance(error, PoolUnreachableError):
                raise
            raise PoolError(
                str(cause.diag.message_primary) if isinstance(cause, psycopg.Error) else str(error)
            ) from error
        return None if found is None else int(found)

    def upkeep(self, job_id: int) -> None:
        """Wake what is due and take back what the dead held: for a job that has no workers to do it."""
        self._value("upkeep(%s)", [job_id])

    def clean(self, job_ids: Sequence[int]) -> None:
        """Remove what these jobs have kept for long enough: of each at most every 30 s, and at most 2,000 of a kind."""
        query = sql.SQL("select {}(job) from unnest(%s::int[]) job").format(in_query(self.schema, "clean"))
        with foreign_errors():
            self.conn.execute(query, [list(job_ids)])

    def clear(self, job_id: int) -> int:
        """Remove all of a job's units and leases; returns how many units."""
        units = 0
        while (removed := self._value("clear(%s, %s)", [job_id, CLEARED_UNITS])) is not None:
            units += removed
        return units
