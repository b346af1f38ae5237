"""How applications put work in from Python, inside their own transaction, as `select striped.enqueue(…)` does in SQL.

Called by users as `stripedjob.enqueue` and `stripedjob.enqueue_many`, and by the command line. Errors are psycopg's:
the connection and its transaction are the caller's. So are its row factory and its cursors, so nothing here uses them.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from stripedjob.pool.scripts import check_schema_name

ENCODER = json.JSONEncoder(allow_nan=False)
CHUNK_UNITS_MAX = 20_000  # in one call: all units of a resource in a call are one wake
CHUNK_CHARACTERS_MAX = 4_000_000  # of payloads and resources


@dataclass(frozen=True, slots=True, kw_only=True)
class NewUnit:
    """One unit to put in. `resource`: 1 to 512 bytes; `due_at` must know its zone.

    `payload` is what JSON can say; `payload_json` instead of it is JSON text, which is kept as it is written.
    `importance`: -100 to 100, the job's by default. A second unit with the same `dedup_id` within 5 minutes is left
    out; where the job has contentBasedDeduplication, that id is made of resource and payload unless it is given.
    """

    resource: str
    payload: Any = None
    payload_json: str | None = None
    importance: int | None = None
    due_at: datetime | None = None
    dedup_id: str | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for a due time without a time zone, which is no moment, and for two payloads."""
        if self.due_at is not None and self.due_at.tzinfo is None:
            raise ValueError(f"due_at {self.due_at} has no time zone: give it one, such as datetime.now(UTC)")
        if self.payload is not None and self.payload_json is not None:
            raise ValueError("give either payload or payload_json")

    def payload_text(self) -> str:
        """Give the payload as JSON text; raises ValueError for NaN and infinity, TypeError for what is not JSON."""
        return ENCODER.encode(self.payload) if self.payload_json is None else self.payload_json


def enqueue(
    conn: psycopg.Connection[Any], job_type: str, unit: NewUnit, *, namespace: str = "default", schema: str = "striped"
) -> int:
    """Put one unit in and return its id; with a deduplication id still good, that of the unit it was first used for."""
    values = [job_type, unit.resource, unit.payload_text(), unit.importance, unit.due_at, unit.dedup_id, namespace]
    return _call(_cursor(conn), schema, "enqueue(%s, %s, %s::json, %s, %s, %s, %s)", values)


def enqueue_many(
    conn: psycopg.Connection[Any],
    job_type: str,
    units: Iterable[NewUnit],
    *,
    namespace: str = "default",
    schema: str = "striped",
) -> int:
    """Put many units in, all or none, in their order; return how many were new.

    Two callers that give the same deduplication ids in different orders can deadlock; Postgres ends one of them.
    """
    cursor = _cursor(conn)
    if not conn.autocommit and conn.info.transaction_status == TransactionStatus.IDLE:
        cursor.execute("select")  # begins the caller's transaction: the one below is a savepoint, and commits nothing
    # In binary, text in an array needs no quotes.
    call = "enqueue_rows(%s, %s, %b, %b, %b::int[], %b::timestamptz[], %b::text[])"
    with conn.transaction():
        return sum(_call(cursor, schema, call, [namespace, job_type, *_columns(chunk)]) for chunk in _chunks(units))


def _cursor(conn: psycopg.Connection[Any]) -> psycopg.Cursor[tuple[Any, ...]]:
    return psycopg.Cursor(conn, row_factory=tuple_row)


def _call(cursor: psycopg.Cursor[tuple[Any, ...]], schema: str, call: str, values: Sequence[Any]) -> int:
    query = sql.SQL("select {}.").format(sql.Identifier(check_schema_name(schema))) + sql.SQL(call)
    row = cursor.execute(query, values).fetchone()
    assert row is not None  # noqa: S101 - a select of a scalar has one row
    return int(row[0])


Row = tuple[str, str, int | None, datetime | None, str | None]


def _chunks(units: Iterable[NewUnit]) -> Iterator[list[Row]]:
    rows: list[Row] = []
    characters = 0
    for unit in units:
        text = unit.payload_text()
        characters += len(text) + len(unit.resource)
        if rows and (len(rows) == CHUNK_UNITS_MAX or characters > CHUNK_CHARACTERS_MAX):
            yield rows
            rows, characters = [], len(text) + len(unit.resource)
        rows.append((unit.resource, text, unit.importance, unit.due_at, unit.dedup_id))
    if rows:
        yield rows


def _columns(rows: Sequence[Row]) -> list[list[Any] | None]:
    """Turn rows into columns; one without a value is None, which spares its array."""
    columns: list[list[Any]] = [list(column) for column in zip(*rows, strict=True)]
    return [None if all(value is None for value in column) else column for column in columns]
