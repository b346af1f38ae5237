"""What a session remembers of where the living begin in an index is a hint: it delays nothing for long."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from tests.support.queues import FIFO, Queue, queue
from tests.support.turned import slow, turn, turned

from stripedjob.pool.names import channel

if TYPE_CHECKING:
    from collections.abc import Iterator

MUTEX = replace(FIFO, on_failure="Skip")
LOOKS = [("first_ready", "ready", "-infinity"), ("has_wakes", "wakes", "0")]  # what is remembered of one slow look


@pytest.fixture
def pool(queue_database: str) -> Iterator[Queue]:
    with queue(queue_database, MUTEX) as made:
        yield made


def remember(pool: Queue, what: str, job: int, place: str, took: float = 0.0) -> None:
    """Have the session of the pool's calls remember a place, which it took so many seconds to find."""
    pool.runner.run(pool.pool._value("remember(%s, %s, %s, make_interval(secs => %s))", [what, job, place, took]))


def recalled(pool: Queue, what: str, job: int) -> str | None:
    found = pool.runner.run(pool.pool._value("recall(%s, %s)", [what, job]))
    return None if found is None else str(found)


def call(pool: Queue, function: str) -> None:
    pool.runner.run(pool.pool._value(f"{function}(%s)", [pool.job_id]))


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


@pytest.mark.parametrize(("took", "seconds"), [(0.0, 1.0), (0.02, 1.0), (0.05, 2.0), (0.5, 20.0), (60.0, 30.0)])
def test_looks_from_the_start_are_a_small_part_of_the_time(pool: Queue, took: float, seconds: float) -> None:
    turned(pool.db)
    remember(pool, "ready", pool.job_id, "x", took)
    turn(pool.db, round(seconds * 500))
    remember(pool, "ready", pool.job_id, "y")  # which does not put it off
    turn(pool.db, round(seconds * 1000) - 1)
    assert recalled(pool, "ready", pool.job_id) == "y"
    turn(pool.db, round(seconds * 1000))
    assert recalled(pool, "ready", pool.job_id) is None


@pytest.mark.parametrize(("what", "place"), [("ready", "infinity"), ("wakes", "1000000")])
def test_what_stands_before_the_place_waits_for_the_next_look_from_the_start(
    pool: Queue, what: str, place: str
) -> None:
    """Such looks take a twentieth of the time at most, also of workers that have nothing else to do."""
    turned(pool.db)
    worker = pool.worker()
    pool.put("a")
    remember(pool, what, pool.job_id, place, 0.05)
    turn(pool.db, 999)
    assert pool.take(worker) == []
    assert not pool.runner.run(pool.pool.poll(worker)).claimable
    turn(pool.db, 1000)
    assert pool.runner.run(pool.pool.poll(worker)).claimable
    assert [lease.resource for lease in pool.take(worker)] == ["a"]


@pytest.mark.parametrize(("looks", "first"), [(1, "before"), (2, "after")])
@pytest.mark.parametrize("what", ["first_ready", "has_wakes"])
def test_one_slow_look_hides_nothing(pool: Queue, what: str, looks: int, first: str) -> None:
    """It may have waited for a processor; after two, what comes to stand before the place may be seen later."""
    turned(pool.db)
    worker = pool.worker()
    with psycopg.connect(pool.url) as late:
        pool.put("before", conn=late, importance=9)
        pool.put("after")
        if what == "first_ready":
            pool.runner.run(pool.pool.upkeep(pool.job_id))
        slow(pool.db, 15)
        for _ in range(looks):
            call(pool, what)
        turned(pool.db)
    assert [lease.resource for lease in pool.take(worker, resources=1)] == [first]


@pytest.mark.parametrize(("look", "what", "unsure"), LOOKS)
def test_two_slow_looks_that_find_nothing_are_enough(pool: Queue, look: str, what: str, unsure: str) -> None:
    """Else each look was one from the start, for as long as there is nothing."""
    turned(pool.db)
    worker = pool.worker()
    pool.put("a")
    pool.work_off(worker)
    slow(pool.db, 15)
    call(pool, look)
    assert recalled(pool, what, pool.job_id) == unsure
    call(pool, look)
    assert recalled(pool, what, pool.job_id) not in {None, unsure}
    turned(pool.db)
    turn(pool.db, 500)
    pool.put("b")
    assert [lease.resource for lease in pool.take(worker)] == ["b"]


@pytest.mark.parametrize(("look", "what", "unsure"), LOOKS)
@pytest.mark.parametrize("meanwhile", ["nothing", "a quick look"])
def test_after_its_time_a_place_is_found_by_one_slow_look(
    pool: Queue, look: str, what: str, unsure: str, meanwhile: str
) -> None:
    """So that such looks are a part of the time as small as was meant; unless one was quick: the snapshot has gone."""
    turned(pool.db)
    remember(pool, what, pool.job_id, "2030-01-01 11:00 Z" if what == "ready" else "5")
    turn(pool.db, 2000)
    if meanwhile == "a quick look":
        call(pool, look)
    assert recalled(pool, what, pool.job_id) is None
    slow(pool.db, 15)
    turn(pool.db, 3000)
    call(pool, look)
    assert (recalled(pool, what, pool.job_id) == unsure) == (meanwhile == "a quick look")


def test_what_was_leased_since_is_seen(pool: Queue) -> None:
    """A session that found no lease of its worker looks only for later ones the next time."""
    worker = pool.worker()
    assert pool.take(worker) == []
    for resource in ("a", "b"):
        pool.put(resource)
        (lease,) = pool.take(worker)
        assert pool.take(worker) == []
        assert pool.one("select working from striped.worker where id = %s", [worker])
        assert pool.runner.run(pool.pool.renew(worker, [lease.fence, 7_000])) == [7_000]
        pool.end(worker, lease)
        assert pool.take(worker) == []
        assert not pool.one("select working from striped.worker where id = %s", [worker])
        assert pool.runner.run(pool.pool.renew(worker, [lease.fence])) == [lease.fence]


def test_a_busy_worker_looks_for_others_from_the_place_on(pool: Queue) -> None:
    """So that the look costs nothing: whom to call for what stands before it is decided by a look from the start."""
    busy, idle = pool.worker(), pool.worker()
    pool.put("a")
    pool.put("b")
    assert len(pool.take(busy, resources=1)) == 1
    with psycopg.connect(pool.url, autocommit=True) as other:
        other.execute(SQL("listen {}").format(Identifier(channel("striped", str(pool.job_id)))))
        remember(pool, "ready", pool.job_id, "infinity", 0.5)
        pool.runner.run(pool.pool.keep_up(pool.job_id, busy))
        assert not list(other.notifies(timeout=0.1))
        pool.runner.run(pool.pool._conn.execute("reset all"))
        pool.runner.run(pool.pool.keep_up(pool.job_id, busy))
        (called,) = other.notifies(timeout=5, stop_after=1)
        assert called.payload == str(idle)


@pytest.mark.parametrize("setting", ["", "x", "a|b", "|||", '1|"striped"', '{job}|infinity|x|y|"other"'])
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
