"""Units put in from Python."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import psycopg
import pytest

import stripedjob
from stripedjob import NewUnit
from stripedjob.pool.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator


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
