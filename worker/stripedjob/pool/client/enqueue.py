"""How applications put work in from Python, inside their own transaction, as `select striped.enqueue(…)` does in SQL.

Called by users as `stripedjob.enqueue`, `enqueue_many`, `aenqueue` and `aenqueue_many`, and by the command line. Errors
are psycopg's: the connection and its transaction are the caller's. So are its row factory and its cursors, so nothing
here uses them.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from stripedjob.pool.client.application import async_psycopg_of, psycopg_of
from stripedjob.pool.install.scripts import check_schema_name
from stripedjob.pool.names import in_query
from stripedjob.tracing import current_traceparent

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
        """Return the payload as JSON text; raises ValueError for NaN and infinity, TypeError for what is not JSON."""
        return ENCODER.encode(self.payload) if self.payload_json is None else self.payload_json


def enqueue(conn: Any, job_type: str, unit: NewUnit, *, namespace: str = "default", schema: str = "striped") -> int:
    """Put one unit in and return its id; with a deduplication id still good, that of the unit it was first used for.

    `conn`: see application.py. Raises TypeError for a connection of another kind.
    """
    cursor = _cursor(psycopg_of(conn))
    return _value(cursor.execute(*_one(job_type, unit, namespace, schema)).fetchone())


async def aenqueue(
    conn: psycopg.AsyncConnection[Any],
    job_type: str,
    unit: NewUnit,
    *,
    namespace: str = "default",
    schema: str = "striped",
) -> int:
    """Do what `enqueue` does with a connection of asyncio."""
    cursor = _async_cursor(async_psycopg_of(conn))
    await cursor.execute(*_one(job_type, unit, namespace, schema))
    return _value(await cursor.fetchone())


def enqueue_many(
    conn: Any,
    job_type: str,
    units: Iterable[NewUnit],
    *,
    namespace: str = "default",
    schema: str = "striped",
) -> int:
    """Put many units in, all or none, in their order; return how many were new.

    Two callers that give the same deduplication ids in different orders can deadlock; Postgres ends one of them.
    `conn`: see application.py. Raises TypeError for a connection of another kind.
    """
    own = psycopg_of(conn)
    cursor = _cursor(own)
    if _is_outside(own):
        cursor.execute("select")  # begins the caller's transaction: the one below is a savepoint, and commits nothing
    with own.transaction():
        calls = (_many(job_type, chunk, namespace, schema) for chunk in _chunks(units))
        return sum(_value(cursor.execute(*call).fetchone()) for call in calls)


async def aenqueue_many(
    conn: psycopg.AsyncConnection[Any],
    job_type: str,
    units: Iterable[NewUnit],
    *,
    namespace: str = "default",
    schema: str = "striped",
) -> int:
    """Do what `enqueue_many` does with a connection of asyncio."""
    own, new = async_psycopg_of(conn), 0
    cursor = _async_cursor(own)
    if _is_outside(own):
        await cursor.execute("select")
    async with own.transaction():
        for chunk in _chunks(units):
            await cursor.execute(*_many(job_type, chunk, namespace, schema))
            new += _value(await cursor.fetchone())
    return new


Call = tuple[sql.Composed, list[Any]]


def _one(job_type: str, unit: NewUnit, namespace: str, schema: str) -> Call:
    row = [unit.resource, unit.payload_text(), unit.importance, unit.due_at, unit.dedup_id]
    values = [job_type, *row, namespace, current_traceparent()]
    return _query(schema, "enqueue(%s, %s, %s::json, %s, %s, %s, %s, %s)"), values


def _many(job_type: str, chunk: "list[Row]", namespace: str, schema: str) -> Call:
    # In binary, text in an array needs no quotes.
    call = "enqueue_rows(%s, %s, %b, %b, %b::int[], %b::timestamptz[], %b::text[], %b::text[])"
    traceparent = current_traceparent()
    traceparents = [traceparent] * len(chunk) if traceparent else None
    return _query(schema, call), [namespace, job_type, *_columns(chunk), traceparents]


def _query(schema: str, call: LiteralString) -> sql.Composed:
    return sql.SQL("select {}.").format(in_query(check_schema_name(schema))) + sql.SQL(call)


def _value(row: tuple[Any, ...] | None) -> int:
    assert row is not None  # noqa: S101 - a select of a scalar has one row
    return int(row[0])


def _is_outside(conn: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> bool:
    """Return whether the next statement begins a transaction that the caller is to end."""
    return not conn.autocommit and conn.info.transaction_status == TransactionStatus.IDLE


def _cursor(conn: psycopg.Connection[Any]) -> psycopg.Cursor[tuple[Any, ...]]:
    return psycopg.Cursor(conn, row_factory=tuple_row)


def _async_cursor(conn: psycopg.AsyncConnection[Any]) -> psycopg.AsyncCursor[tuple[Any, ...]]:
    return psycopg.AsyncCursor(conn, row_factory=tuple_row)


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
