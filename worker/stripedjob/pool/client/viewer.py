"""What whoever may see a pool asks of it: numbers, workers, units, and why something waits. Blocking.

The base of what people and the operator call. Each call is one round trip. Errors are the pool's own (errors.py).
"""

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, Self

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from stripedjob.explaining import breaker_words
from stripedjob.pool.connection import ADMIN_SECONDS_MAX, connect, foreign_errors
from stripedjob.pool.errors import NO_SUCH_JOB, PoolError
from stripedjob.pool.install.migrate import version
from stripedjob.pool.names import channel, in_query
from stripedjob.pool.types import JobSettings

PAYLOADS_MAX = 1_000  # in one call
LOOKED_UNITS = 2_000  # of a listing, so many looked at in one call


@dataclass(frozen=True, slots=True)
class JobStatus:
    """One job's numbers now, and its totals since it was made. `paused_…`: who paused it, if anybody, why and when.

    `breaker_…`, where the circuit breaker is not closed: how many tries had failed alike, how, until when nothing is
    claimed, and the seconds to that: 0 or less, it is half open. None where it is closed.
    """

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
    breaker_failures: int | None = None
    breaker_kind: str | None = None
    breaker_until: str | None = None
    breaker_seconds: float | None = field(default=None, compare=False)  # differs with each look


def paused(status: JobStatus) -> str:
    """Say who has paused a job, since when and why; "" where nobody has."""
    if status.paused_by is None:
        return ""
    why = f": {status.paused_why}" if status.paused_why else ""
    return f"paused by {status.paused_by} at {status.paused_at}{why}"


def breaker(status: JobStatus) -> str:
    """Say why a job's circuit breaker keeps it back, and until when; "" where it is closed."""
    if status.breaker_seconds is None:
        return ""
    failures, kind, until = status.breaker_failures or 0, status.breaker_kind or "", status.breaker_until or ""
    return breaker_words(failures, kind, until, status.breaker_seconds)


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


class Place(NamedTuple):
    """Where a page of units goes on: after this resource (of what is done: this time) and id."""

    resource: str = ""
    id: int = 0


@dataclass(frozen=True, slots=True)
class Filter:
    """Which units are listed: in a state (None: all but done), of a resource, whose reason begins so, put in before.

    States are those of shown_state() in SQL.
    """

    state: str | None = None
    resource: str | None = None
    reason: str | None = None
    before: dt.datetime | None = None


class ViewerPool:
    """A connection to a pool; `with ViewerPool.open(url, schema)`."""

    def __init__(self, conn: psycopg.Connection, schema: str) -> None:
        """Take a connection in autocommit mode."""
        self.conn = conn
        self.schema = schema

    @classmethod
    @contextmanager
    def open(cls, url: str, schema: str = "striped", *, statement_seconds: float = ADMIN_SECONDS_MAX) -> Iterator[Self]:
        """Connect; raises PoolConfigError, PoolUnreachableError, PoolRefusedError. Longer statements are ended."""
        conn = connect(url, statement_seconds=statement_seconds)
        try:
            yield cls(conn, schema)
        finally:
            conn.close()

    def exists(self) -> bool:
        """Return whether there is a pool in the schema, of whichever version."""
        with foreign_errors():
            return version(self.conn, self.schema) > 0

    def settings(self, namespace: str, job_type: str) -> JobSettings | None:
        """Return what the pool judges a job by; without a pause of it; None where there is no such job."""
        found = self._value("job_settings(%s, %s)", [namespace, job_type])
        return JobSettings(**{field.name: found[field.name] for field in fields(JobSettings)}) if found else None

    def job_id(self, namespace: str, job_type: str) -> int:
        """Find a job; raises PoolError that says what to do where there is none."""
        return int(self._value("job_id(%s, %s)", [namespace, job_type]))

    def status(self, job_id: int) -> JobStatus:
        """Return one job's numbers."""
        return self.statuses([job_id])[0]

    def statuses(self, job_ids: Sequence[int] | None = None) -> list[JobStatus]:
        """Return the numbers of these jobs, or of all, in one query."""
        return self._statuses("job_statuses", job_ids)

    def workers(self, job_id: int) -> list[WorkerStatus]:
        """Return the job's registered workers."""
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

    def is_empty(self, job_id: int) -> bool:
        """Return whether nothing is left to do; held and dead units, which wait for a person, do not count."""
        return bool(self._value("is_empty(%s)", [job_id]))

    def explain(self, job_id: int, resource: str) -> dict[str, Any]:
        """Return the facts of why a resource is or is not worked on."""
        return dict(self._value("explain(%s, %s)", [job_id, resource]))

    def list_units(self, job_id: int, which: Filter, after: Place, *, looked: int) -> Any:
        """Return one page, of at most so many units looked at; what is in it stands in viewer.sql."""
        values = [which.state, which.resource, which.reason, which.before, *after, min(looked, LOOKED_UNITS)]
        return self._row("list_units", [job_id, *values])[0]

    def history(self, job_id: int, of: str | int | None, before: int | None, *, events: int) -> Any:
        """Return a page of what happened, the newest first, before this event.

        `of`: a resource, a unit by its id, or None for the job as a whole, which is in that of the others, too.

        What is in it: told_page() in SQL.
        """
        routine = "unit_history" if isinstance(of, int) else "resource_history"
        return self._row(routine, [job_id, of, before, events])[0]

    def payloads(self, job_id: int, ids: Sequence[int]) -> dict[int, str]:
        """Return the payloads of those of these units that are there: at most PAYLOADS_MAX. Raises PoolRefusedError."""
        query = sql.SQL("select * from {}(%s, %s)").format(in_query(self.schema, "payloads"))
        with foreign_errors():
            return {row[0]: row[1] for row in self.conn.execute(query, [job_id, list(ids)])}

    def outlook(self, job_id: int, bound: int) -> Any:
        """Say what is in a job's way, so much of each kind; what is in it stands in viewer.sql."""
        return self._row("outlook", [job_id, bound])[0]

    def times(self, job_id: int, minutes: int) -> Any:
        """Say how many units waited and ran how long in the last minutes; what is in it stands in lib/times.sql."""
        return self._row("times", [job_id, minutes])[0]

    def unit_states(self, job_id: int, ids: Sequence[int]) -> dict[int, tuple[str, str | None]]:
        """Return state and reason of those of these units that are there."""
        query = sql.SQL("select * from {}(%s, %s)").format(in_query(self.schema, "unit_states"))
        with foreign_errors():
            return {row[0]: (row[1], row[2]) for row in self.conn.execute(query, [job_id, list(ids)])}

    def _statuses(self, function: str, job_ids: Sequence[int] | None) -> list[JobStatus]:
        names = sql.SQL(", ").join(sql.Identifier(field.name) for field in fields(JobStatus))
        query = sql.SQL("select {} from {}(%s::int[])").format(names, in_query(self.schema, function))
        ids = None if job_ids is None else list(job_ids)
        with foreign_errors(), self.conn.cursor(row_factory=dict_row) as cursor:
            return [JobStatus(**row) for row in cursor.execute(query, [ids])]

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

    def _row(self, routine: str, values: Sequence[Any]) -> tuple[Any, ...]:
        places = sql.SQL(", ").join(sql.Placeholder() * len(values))
        query = sql.SQL("select * from {}({})").format(in_query(self.schema, routine), places)
        with foreign_errors():
            row: tuple[Any, ...] | None = self.conn.execute(query, values).fetchone()
        assert row is not None  # noqa: S101 - each of these gives one row
        return row


def _explained(error: PoolError) -> PoolError:
    cause = error.__cause__
    if isinstance(cause, psycopg.Error) and cause.sqlstate == NO_SUCH_JOB:
        return PoolError(f"{cause.diag.message_primary}. {cause.diag.message_hint}")
    return error
