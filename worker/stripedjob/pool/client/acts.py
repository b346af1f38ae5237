"""What people do to a pool that is at work: list, cancel, hurry, pause and resume. The base of PoolAdmin.

Each is one function of api/v1/person.sql or viewer.sql, called for a bounded number of units at a time until it is
through. Errors are the pool's own (errors.py).
"""

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from stripedjob.pool.connection import foreign_errors
from stripedjob.pool.names import in_query

CHUNK_UNITS = 5_000  # of what a person asks for at once, so much in one transaction
PAYLOADS_MAX = 1_000  # in one call
LOOKED_UNITS = 2_000  # of a listing, so many looked at in one call
WAITING_STATES = ("ready", "delayed", "held", "ready")  # again at the end: what became ready meanwhile


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


@dataclass(frozen=True, slots=True)
class Cancelled:
    """`ended`: so many units are dead. `asked`: so many are of leased resources; their workers end what they began."""

    ended: int
    asked: int


class PoolActs:
    """The calls; `conn` and `schema` are the subclass's."""

    conn: psycopg.Connection
    schema: str

    def list_units(self, job_id: int, which: Filter, after: Place, *, looked: int) -> Any:
        """Give one page, of at most so many units looked at; what is in it stands in viewer.sql."""
        values = [which.state, which.resource, which.reason, which.before, *after, min(looked, LOOKED_UNITS)]
        return self._row("list_units", [job_id, *values])[0]

    def payloads(self, job_id: int, ids: Sequence[int]) -> dict[int, str]:
        """Give the payloads of those of these units that are there: at most PAYLOADS_MAX. Raises PoolRefusedError."""
        query = sql.SQL("select * from {}(%s, %s)").format(in_query(self.schema, "payloads"))
        with foreign_errors():
            return {row[0]: row[1] for row in self.conn.execute(query, [job_id, list(ids)])}

    def outlook(self, job_id: int, bound: int) -> Any:
        """Say what is in a job's way, so much of each kind; what is in it stands in viewer.sql."""
        return self._row("outlook", [job_id, bound])[0]

    def unit_states(self, job_id: int, ids: Sequence[int]) -> dict[int, tuple[str, str | None]]:
        """Give state and reason of those of these units that are there."""
        query = sql.SQL("select * from {}(%s, %s)").format(in_query(self.schema, "unit_states"))
        with foreign_errors():
            return {row[0]: (row[1], row[2]) for row in self.conn.execute(query, [job_id, list(ids)])}

    def cancel(self, job_id: int, resource: str | None, ids: Sequence[int], who: str, why: str) -> Cancelled:
        """Cancel what waits, and ask for the end of what runs: of the job, of one resource, or given units."""
        ended = asked = 0
        parts = [(None, part) for part in _parts(ids)] if ids else [(state, None) for state in WAITING_STATES]
        for state, part in parts:
            after: Place | None = Place()
            while after is not None:
                values = [job_id, state, resource, part, *after, who, why, CHUNK_UNITS]
                row = self._row("cancel", values)
                ended, asked = ended + row[0], asked + row[1]
                after = Place(row[2], row[3]) if row[3] is not None and not part else None
        return Cancelled(ended, asked)

    def retry_now(self, job_id: int, resource: str | None, ids: Sequence[int]) -> tuple[int, int]:
        """Have waiting retries go on at once; returns how many units were delayed, and how many resources waited."""
        units = resources = 0
        for part in _parts(ids) if ids else [None]:
            after: Place | None = Place()
            while after is not None:
                found = self._row("retry_now", [job_id, resource, part, *after, CHUNK_UNITS])
                units += found[0]
                after = Place(found[1], found[2]) if found[2] is not None and not part else None
            name: str | None = ""
            while name is not None:
                found = self._row("retry_resources_now", [job_id, resource, part, name, CHUNK_UNITS])
                resources += found[0]
                name = None if part or resource is not None else found[1]
        return units, resources

    def pause(self, job_id: int, resource: str | None, who: str, why: str) -> bool:
        """Pause a job, or one resource of it; False: it was paused already, and stays so for what was said then."""
        if resource is None:
            return bool(self._row("pause_job", [job_id, who, why])[0])
        return bool(self._row("pause_resource", [job_id, resource, who, why])[0])

    def resume(self, job_id: int, resource: str | None) -> bool:
        """End the pause of a job, or of one resource of it; False: it was not paused."""
        if resource is None:
            return bool(self._row("resume_job", [job_id])[0])
        return bool(self._row("resume_resource", [job_id, resource])[0])

    def _row(self, routine: str, values: Sequence[Any]) -> tuple[Any, ...]:
        places = sql.SQL(", ").join(sql.Placeholder() * len(values))
        query = sql.SQL("select * from {}({})").format(in_query(self.schema, routine), places)
        with foreign_errors():
            row: tuple[Any, ...] | None = self.conn.execute(query, values).fetchone()
        assert row is not None  # noqa: S101 - each of these gives one row
        return row


def _parts(ids: Sequence[int]) -> Iterator[list[int]]:
    for first in range(0, len(ids), CHUNK_UNITS):
        yield list(ids[first : first + CHUNK_UNITS])
