"""Units put in from Python."""

from __future__ import annotations

import itertools
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import class_row, dict_row, namedtuple_row, scalar_row, tuple_row
from tests.support.rights import as_role, new_role

import stripedjob
from stripedjob import NewUnit
from stripedjob.pool.client import enqueue as module
from stripedjob.pool.install.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.migrated


@pytest.fixture
def db(fresh_database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(fresh_database, autocommit=True) as conn:
        migrate(conn)
        conn.execute("select striped.apply_job('default', 'sync', 0, 4, 3, 30, 5, 'Skip', 0, 600)")
        yield conn


def rows(db: psycopg.Connection) -> list[tuple[object, ...]]:
    return db.execute(
        "select resource, payload::json, importance, state::text from striped.unit order by id"
    ).fetchall()


def test_one_unit_is_put_in_with_the_callers_transaction(db: psycopg.Connection) -> None:
    with db.transaction(force_rollback=True):
        stripedjob.enqueue(db, "sync", NewUnit(resource="a"))
    stripedjob.enqueue(db, "sync", NewUnit(resource="b", payload={"price": 1}, importance=9))
    assert rows(db) == [("b", {"price": 1}, 9, "ready")]


def test_many_units_keep_their_order_and_leave_out_what_came_before(db: psycopg.Connection) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    units = [
        NewUnit(resource="a", payload=1, dedup_id="x"),
        NewUnit(resource="b", payload="tab\tnewline\n\\N"),
        NewUnit(resource="c", payload=2, dedup_id="x"),
        NewUnit(resource="d", due_at=soon),
    ]
    assert stripedjob.enqueue_many(db, "sync", units) == 3
    assert stripedjob.enqueue_many(db, "sync", units[:1]) == 0
    assert rows(db) == [
        ("a", 1, 3, "ready"),
        ("b", "tab\tnewline\n\\N", 3, "ready"),
        ("d", None, 3, "delayed"),
    ]
    assert db.execute("select sum(units) from striped.wake").fetchone() == (2,)


def test_of_many_units_with_a_bad_one_none_is_put_in(db: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="resource_length"):
        stripedjob.enqueue_many(db, "sync", [NewUnit(resource="a"), NewUnit(resource="x" * 600)])
    assert rows(db) == []


def test_a_due_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        NewUnit(resource="a", due_at=datetime(2026, 1, 1))  # noqa: DTZ001


def one(conn: psycopg.Connection[Any]) -> int:
    return stripedjob.enqueue(conn, "sync", NewUnit(resource="a"))


def many(conn: psycopg.Connection[Any]) -> int:
    return stripedjob.enqueue_many(conn, "sync", [NewUnit(resource="a"), NewUnit(resource="a")])


WAYS = pytest.mark.parametrize(("way", "units"), [(one, 1), (many, 2)])
FACTORIES: list[Any] = [tuple_row, dict_row, namedtuple_row, scalar_row, class_row(dict)]


@WAYS
def test_the_connections_row_factory_and_cursors_are_the_callers(
    db: psycopg.Connection[Any], way: Callable[..., int], units: int
) -> None:
    for factory, cursor in itertools.product(FACTORIES, [psycopg.Cursor, psycopg.ClientCursor, psycopg.RawCursor]):
        db.row_factory, db.cursor_factory = factory, cursor
        with db.transaction(force_rollback=True):
            assert way(db) >= units
        assert (db.row_factory, db.cursor_factory) == (factory, cursor)


@WAYS
def test_what_is_put_in_without_autocommit_waits_for_the_callers_commit(
    db: psycopg.Connection, fresh_database: str, way: Callable[..., int], units: int
) -> None:
    with psycopg.connect(fresh_database) as conn:
        for is_begun, is_pipelined in itertools.product([False, True], repeat=2):
            db.execute("truncate striped.unit")
            for end in (conn.rollback, conn.commit):
                if is_begun:
                    conn.execute("select 1")
                with conn.pipeline() if is_pipelined else nullcontext():
                    assert way(conn) > 0
                assert rows(db) == []
                end()
            assert len(rows(db)) == units


@WAYS
def test_a_transaction_that_has_failed_gives_psycopgs_own_error(
    fresh_database: str, db: psycopg.Connection, way: Callable[..., int], units: int
) -> None:
    with psycopg.connect(fresh_database) as conn:
        with pytest.raises(psycopg.errors.UndefinedTable):
            conn.execute("select from nowhere")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            way(conn)
        conn.rollback()
        assert way(conn) > 0
    assert len(rows(db)) == units


def test_a_batch_that_fails_leaves_the_callers_transaction_as_it_was(
    fresh_database: str, db: psycopg.Connection
) -> None:
    with psycopg.connect(fresh_database) as conn:
        one(conn)
        with pytest.raises(psycopg.errors.CheckViolation):
            stripedjob.enqueue_many(conn, "sync", [NewUnit(resource="b"), NewUnit(resource="")])
        many(conn)
    assert [row[0] for row in rows(db)] == ["a", "a", "a"]


@pytest.mark.parametrize("limit", ["CHUNK_UNITS_MAX", "CHUNK_CHARACTERS_MAX"])
def test_chunks_are_as_one(db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(module, limit, 3)
    soon = datetime.now(UTC) + timedelta(hours=1)
    units = [
        NewUnit(resource=f"r{n}", payload=n, importance=n if n % 3 else None, due_at=soon if n % 4 == 0 else None)
        for n in range(10)
    ]
    again = [NewUnit(resource="again", dedup_id=f"{n % 2}") for n in range(7)]
    assert stripedjob.enqueue_many(db, "sync", [*units, *again]) == 12
    assert rows(db) == [
        *((f"r{n}", n, n if n % 3 else 3, "delayed" if n % 4 == 0 else "ready") for n in range(10)),
        *[("again", None, 3, "ready")] * 2,
    ]
    with pytest.raises(psycopg.errors.CheckViolation):
        stripedjob.enqueue_many(db, "sync", [*units, NewUnit(resource="x" * 600)])
    assert len(rows(db)) == 12
    assert stripedjob.enqueue_many(db, "sync", []) == 0


ODD_JSON = [
    *("12345678901234567890.12", "1e-400", "-0", "1e400", "1e999999"),
    *('{"b": 1, "a": 1,"b":2}', ' "\\u0000" ', '"\\ud800"'),
]


@pytest.mark.parametrize("by", ["id", "content"])
def test_a_payload_that_is_given_as_text_is_kept_as_it_is_written(db: psycopg.Connection, by: str) -> None:
    db.execute("update striped.job set deduplicate_content = %s", [by == "content"])
    units = [NewUnit(resource="a", payload_json=text) for text in ODD_JSON]
    assert stripedjob.enqueue_many(db, "sync", units) == len(units)
    assert all(stripedjob.enqueue(db, "sync", unit) for unit in units)
    stored = [row[0] for row in db.execute("select payload::text from striped.unit order by id")]
    assert stored == ODD_JSON * (1 if by == "content" else 2)


@pytest.mark.parametrize("payload", [float("nan"), float("inf"), {"a": [float("-inf")]}])
def test_a_payload_that_is_no_json_is_refused(db: psycopg.Connection, payload: object) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        stripedjob.enqueue(db, "sync", NewUnit(resource="a", payload=payload))
    with pytest.raises(ValueError, match="not JSON compliant"):
        stripedjob.enqueue_many(db, "sync", [NewUnit(resource="a"), NewUnit(resource="a", payload=payload)])
    with pytest.raises(psycopg.errors.InvalidTextRepresentation):
        stripedjob.enqueue_many(db, "sync", [NewUnit(resource="a", payload_json="NaN")])
    assert rows(db) == []


def test_two_payloads_are_refused() -> None:
    with pytest.raises(ValueError, match="either payload or payload_json"):
        NewUnit(resource="a", payload=1, payload_json="1")


def test_a_role_that_may_make_nothing_can_put_units_in(db: psycopg.Connection, fresh_database: str) -> None:
    db.execute(sql.SQL("revoke temporary on database {} from public").format(sql.Identifier(db.info.dbname)))
    with new_role(db, "enqueuer") as role:
        before = db.execute("select count(*) from pg_attribute").fetchone()
        with psycopg.connect(as_role(fresh_database, role)) as conn:
            assert (one(conn), many(conn)) == (1, 2)
            assert stripedjob.enqueue_many(conn, "sync", [NewUnit(resource="a", dedup_id="x")] * 2) == 1
        assert db.execute("select count(*) from pg_attribute").fetchone() == before
