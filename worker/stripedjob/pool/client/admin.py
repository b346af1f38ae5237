"""What people, supervisors and the operator ask of a pool and change in it. Blocking; one round trip a call.

Called by the command line, the local supervisor and the operator. Errors are the pool's own (errors.py).
"""

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, Literal

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from stripedjob.pool.client.acts import CHUNK_UNITS, PoolActs
from stripedjob.pool.connection import ADMIN_SECONDS_MAX, connect, foreign_errors
from stripedjob.pool.errors import NO_SUCH_JOB, PoolError, PoolUnreachableError
from stripedjob.pool.install.doctor import Finding, examine
from stripedjob.pool.install.migrate import migrate, version
from stripedjob.pool.install.teardown import Torn, teardown
from stripedjob.pool.names import channel, in_query
from stripedjob.pool.types import JobSettings


@dataclass(frozen=True, slots=True)
class JobStatus:
    """One job's numbers now, and its totals since it was made. `paused_…`: who paused it, if anybody, why and when."""

    id: int
    namespace: str
    job_type: str
    schedule_limit: int
    ready_resources: int
    leased_resources: int
    waiting_resources: int
    pending: int
    delayed: int
    in_flight: int
    held: int
    dead: int
    workers: int
    working: int
    total_done: int
    total_retried: int
    total_held: int
    total_dead: int
    total_crashed: int
    total_stale: int
    total_claimed: int
    total_lock_tries: int
    total_lock_refusals: int
    paused_by: str | None = None
    paused_why: str | None = None
    paused_at: str | None = None


def paused(status: JobStatus) -> str:
    """Say who has paused a job, since when and why; "" where nobody has."""
    if status.paused_by is None:
        return ""
    why = f": {status.paused_why}" if status.paused_why else ""
    return f"paused by {status.paused_by} at {status.paused_at}{why}"


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One registered worker: its name, as it registered with, whether it has a slot, and whether its lease is good."""

    name: str
    working: bool
    alive: bool = True


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a job waits for: the resource that goes on next, the unit that is due next, and how many wait for a person.

    Seconds are from now, None for never. `resource_reason`: of its first unit, where that was tried; `barrier`: the
    delayed unit that it waits for, where order is strict. With neither it waits for its lock.
    """

    resource: str | None = None
    resource_seconds: float | None = None
    resource_reason: str | None = None
    barrier: int | None = None
    unit: int | None = None
    unit_resource: str | None = None
    unit_seconds: float | None = None
    unit_reason: str | None = None
    for_person: int = 0


class PoolAdmin(PoolActs):
    """A connection to a pool; `with PoolAdmin.open(url, schema)`."""

    def __init__(self, conn: psycopg.Connection, schema: str) -> None:
        """Take a connection in autocommit mode."""
        self.conn = conn
        self.schema = schema

    @classmethod
    @contextmanager
    def open(
        cls, url: str, schema: str = "striped", *, statement_seconds: float = ADMIN_SECONDS_MAX
    ) -> Iterator["PoolAdmin"]:
        """Connect; raises PoolConfigError, PoolUnreachableError, PoolRefusedError. Longer statements are ended."""
        conn = connect(url, statement_seconds=statement_seconds)
        try:
            yield cls(conn, schema)
        finally:
            conn.close()

    def migrate(self) -> list[int]:
        """Bring the schema to this version; returns the versions applied."""
        with foreign_errors():
            return migrate(self.conn, self.schema)

    def teardown(self) -> Torn | None:
        """Drop what is the pool's; None where there was none. Raises PoolRefusedError where others depend on it."""
        with foreign_errors():
            return teardown(self.conn, self.schema)

    def examine(self) -> list[Finding]:
        """Look for what is wrong with the schema and its server; changes nothing."""
        with foreign_errors():
            return examine(self.conn, self.schema)

    def exists(self) -> bool:
        """Say whether there is a pool in the schema, of whichever version."""
        with foreign_errors():
            return version(self.conn, self.schema) > 0

    def settings(self, namespace: str, job_type: str) -> JobSettings | None:
        """Give what the pool judges a job by; without a pause of it; None where there is no such job."""
        found = self._value("job_settings(%s, %s)", [namespace, job_type])
        return JobSettings(**{field.name: found[field.name] for field in fields(JobSettings)}) if found else None

    def apply(self, job: JobSettings) -> int:
        """Make the job or update it in place; returns its id."""
        return int(self._value(f"apply_job({', '.join(['%s'] * len(fields(job)))})", job.as_values()))

    def job_id(self, namespace: str, job_type: str) -> int:
        """Find a job; raises PoolError that says what to do where there is none."""
        return int(self._value("job_id(%s, %s)", [namespace, job_type]))

    def status(self, job_id: int) -> JobStatus:
        """Give one job's numbers."""
        return self.statuses([job_id])[0]

    def statuses(self, job_ids: Sequence[int] | None = None) -> list[JobStatus]:
        """Give the numbers of these jobs, or of all, in one query."""
        return self._statuses("job_statuses", job_ids)

    def tend(self, job_ids: Sequence[int]) -> list[JobStatus]:
        """Keep up the jobs that have no workers to do it, and give the numbers of all of these: one round trip."""
        return self._statuses("tend", job_ids)

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

    def workers(self, job_id: int) -> list[WorkerStatus]:
        """Give the job's registered workers."""
        query = sql.SQL("select name, working, alive from {}(%s)").format(in_query(self.schema, "workers"))
        with foreign_errors():
            return [WorkerStatus(*row) for row in self.conn.execute(query, [job_id])]

    def waiting(self, job_id: int) -> Waiting:
        """Say what the job waits for."""
        query = sql.SQL("select * from {}(%s)").format(in_query(self.schema, "waiting"))
        with foreign_errors():
            row = self.conn.execute(query, [job_id]).fetchone()
        return Waiting(*row) if row else Waiting()

    def listen(self, of: str) -> None:
        """Hear the calls on a channel of the pool's (names.py) over this connection."""
        with foreign_errors():
            self.conn.execute(sql.SQL("listen {}").format(sql.Identifier(channel(self.schema, of))))

    def upkeep(self, job_id: int) -> None:
        """Wake what is due and take back what the dead held: for a job that has no workers to do it."""
        self._value("upkeep(%s)", [job_id])

    def clean(self, job_ids: Sequence[int]) -> None:
        """Remove what these jobs have kept for long enough: of each at most every 30 s, and at most 2,000 of a kind."""
        query = sql.SQL("select {}(job) from unnest(%s::int[]) job").format(in_query(self.schema, "clean"))
        with foreign_errors():
            self.conn.execute(query, [list(job_ids)])

    def is_empty(self, job_id: int) -> bool:
        """Say whether nothing is left to do; held and dead units, which wait for a person, do not count."""
        return bool(self._value("is_empty(%s)", [job_id]))

    def explain(self, job_id: int, resource: str) -> dict[str, Any]:
        """Give the facts of why a resource is or is not worked on."""
        return dict(self._value("explain(%s, %s)", [job_id, resource]))

    def revive(
        self, job_id: int, state: Literal["held", "dead"], resource: str | None, ids: Sequence[int] | None
    ) -> int:
        """Make held or dead units ready again: all, one resource's, or given ones; returns how many."""
        return self._in_chunks("revive(%s, %s, %s, %s, %s)", [job_id, state, resource, list(ids) if ids else None])

    def purge(
        self, job_id: int, state: Literal["held", "dead"], resource: str | None, ids: Sequence[int] | None
    ) -> int:
        """Remove held or dead units for good; returns how many."""
        return self._in_chunks("purge(%s, %s, %s, %s, %s)", [job_id, state, resource, list(ids) if ids else None])

    def clear(self, job_id: int) -> int:
        """Remove all of a job's units and leases; returns how many units."""
        units = 0
        while (removed := self._value("clear(%s, %s)", [job_id, CHUNK_UNITS])) is not None:
            units += removed
        return units

    def _statuses(self, function: str, job_ids: Sequence[int] | None) -> list[JobStatus]:
        names = sql.SQL(", ").join(sql.Identifier(field.name) for field in fields(JobStatus))
        query = sql.SQL("select {} from {}(%s::int[])").format(names, in_query(self.schema, function))
        ids = None if job_ids is None else list(job_ids)
        with foreign_errors(), self.conn.cursor(row_factory=dict_row) as cursor:
            return [JobStatus(**row) for row in cursor.execute(query, [ids])]

    def _in_chunks(self, call: str, values: Sequence[Any]) -> int:
        """Repeat a call that works on so many units at most, until it finds none."""
        units = 0
        while changed := self._value(call, [*values, CHUNK_UNITS]):
            units += changed
        return units

    def _value(self, call: str, values: Sequence[Any]) -> Any:
        query = sql.SQL("select {}.").format(in_query(self.schema)) + sql.SQL(call)
        try:
            with foreign_errors():
                row = self.conn.execute(query, values).fetchone()
        except PoolError as error:
            explained = _explained(error)
            if explained is error:
                raise
            raise explained from error
        return row[0] if row else None


def _explained(error: PoolError) -> PoolError:
    cause = error.__cause__
    if isinstance(cause, psycopg.Error) and cause.sqlstate == NO_SUCH_JOB:
        return PoolError(f"{cause.diag.message_primary}. {cause.diag.message_hint}")
    return error
