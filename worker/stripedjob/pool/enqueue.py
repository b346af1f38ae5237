"""How applications put work in from Python, inside their own transaction, as `select striped.enqueue(…)` does in SQL.

Called by users as `stripedjob.enqueue` and `stripedjob.enqueue_many`, and by the command line. Errors are psycopg's:
the connection and its transaction are the caller's.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql

from stripedjob.pool.migrate import check_schema_name


@dataclass(frozen=True, slots=True, kw_only=True)
class NewUnit:
    """One unit to put in. `resource`: 1 to 512 bytes; `due_at` must know its zone.

    `importance`: -100 to 100, the job's by default. A second unit with the same `dedup_id` within 5 minutes is left
    out; where the job has contentBasedDeduplication, that id is made of resource and payload unless it is given.
    """

    resource: str
    payload: Any = None
    importance: int | None = None
    due_at: datetime | None = None
    dedup_id: str | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for a due time without a time zone: nobody could say when that is."""
        if self.due_at is not None and self.due_at.tzinfo is None:
            raise ValueError(f"due_at {self.due_at} has no time zone: give it one, such as datetime.now(UTC)")


def enqueue(
    conn: psycopg.Connection, job_type: str, unit: NewUnit, *, namespace: str = "default", schema: str = "striped"
) -> int:
    """Put one unit in and return its id; with a deduplication id still good, that of the unit it was first used for."""
    query = sql.SQL("select {}.enqueue(%s, %s, %s::json, %s, %s, %s, %s)").format(
        sql.Identifier(check_schema_name(schema))
    )
    values = [job_type, unit.resource, json.dumps(unit.payload), unit.importance, unit.due_at, unit.dedup_id, namespace]
    row = conn.execute(query, values).fetchone()
    assert row is not None  # noqa: S101 - a select of a scalar has one row
    return int(row[0])


def enqueue_many(
    conn: psycopg.Connection,
    job_type: str,
    units: Iterable[NewUnit],
    *,
    namespace: str = "default",
    schema: str = "striped",
) -> int:
    """Put many units in by COPY, all or none, in their order; return how many were new."""
    pool = sql.Identifier(check_schema_name(schema))
    with conn.transaction(), conn.cursor() as cursor:
        cursor.execute(sql.SQL("select {}.stage()").format(pool))
        with cursor.copy("copy striped_staged (resource, payload, importance, due_at, dedup_id) from stdin") as copy:
            for unit in units:
                copy.write_row((unit.resource, json.dumps(unit.payload), unit.importance, unit.due_at, unit.dedup_id))
        query = sql.SQL("select {}.enqueue_staged(%s, %s)").format(pool)
        row = cursor.execute(query, [namespace, job_type]).fetchone()
    assert row is not None  # noqa: S101 - a select of a scalar has one row
    return int(row[0])
