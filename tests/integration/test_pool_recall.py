"""What a session remembers of where the living begin in an index is a hint: it delays nothing by more than a second."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.support.queues import FIFO, Queue, queue

if TYPE_CHECKING:
    from collections.abc import Iterator

MUTEX = replace(FIFO, on_failure="Skip")


@pytest.fixture
def pool(queue_database: str) -> Iterator[Queue]:
    with queue(queue_database, MUTEX) as made:
        yield made


def remember(pool: Queue, what: str, job: int, place: str) -> None:
    """Have the session of the pool's calls remember a place."""
    pool.runner.run(pool.pool._value("remember(%s, %s, %s)", [what, job, place]))


def recalled(pool: Queue, what: str, job: int) -> str | None:
    found = pool.runner.run(pool.pool._value("recall(%s, %s)", [what, job]))
    return None if found is None else str(found)


def test_what_stands_before_the_place_is_found_where_nothing_stands_after_it(pool: Queue) -> None:
    worker = pool.worker()
    pool.put("a")
    remember(pool, "ready", pool.job_id, "infinity")
    assert [lease.resource for lease in pool.take(worker)] == ["a"]


def test_what_stands_after_the_place_goes_first_for_a_second(pool: Queue) -> None:
    worker = pool.worker()
    pool.put("a")
    pool.take(pool.worker(), resources=0)
    place = pool.one("select clock_timestamp()::text")
    pool.put("b")
    remember(pool, "ready", pool.job_id, place)
    assert [lease.resource for lease in pool.take(worker, resources=1)] == ["b"]
    pool.runner.run(pool.pool._conn.execute("reset all"))
    assert [lease.resource for lease in pool.take(worker, resources=1)] == ["a"]


def test_a_wake_before_the_place_is_folded_where_none_comes_after_it(pool: Queue) -> None:
    worker = pool.worker()
    pool.put("a")
    remember(pool, "wakes", pool.job_id, "1000000")
    assert [lease.resource for lease in pool.take(worker)] == ["a"]


@pytest.mark.parametrize("setting", ["", "x", "a|b", "|||", '1|"striped"', '{job}|infinity|x|"other"'])
def test_what_another_left_behind_is_not_believed(pool: Queue, setting: str) -> None:
    worker = pool.worker()
    pool.put("a")
    for what in ("ready", "wakes"):
        values = [f"striped.{what}", setting.format(job=pool.job_id)]
        pool.runner.run(pool.pool._conn.execute("select set_config(%s, %s, false)", values))
    assert recalled(pool, "ready", pool.job_id) is None
    assert [lease.resource for lease in pool.take(worker)] == ["a"]


def test_places_are_kept_apart_by_job(pool: Queue) -> None:
    remember(pool, "ready", pool.job_id, "x")
    assert recalled(pool, "ready", pool.job_id) == "x"
    assert recalled(pool, "ready", pool.job_id + 1) is None
    remember(pool, "ready", pool.job_id + 1, "y")
    assert recalled(pool, "ready", pool.job_id) is None
