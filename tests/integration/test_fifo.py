"""FIFO, point by point as docs/fifo.md compares it with SQS FIFO."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
import pytest
from tests.support.queues import FIFO, Queue, queue

from stripedjob.explaining import sentences
from stripedjob.pool.types import Fate, Then

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def skipping(queue_database: str) -> Iterator[Queue]:
    with queue(queue_database, replace(FIFO, on_failure="Skip")) as made:
        yield made


# Order


def test_batches_keep_the_order_of_their_group(fifo: Queue) -> None:
    put = [fifo.put("a") for _ in range(25)]
    worker = fifo.worker()
    worked: list[int] = []
    while leases := fifo.take(worker, units=10):
        (lease,) = leases
        assert len(lease.ids) <= 10
        worked += lease.ids
        fifo.end(worker, lease)
    assert worked == put


def test_a_lease_that_is_kept_and_settled_in_parts_keeps_the_order(fifo: Queue) -> None:
    first, second, third = [fifo.put("a") for _ in range(3)]
    one, other = fifo.worker(), fifo.worker()
    (lease,) = fifo.take(one)
    fifo.end(one, lease, then=Then.KEEP, done=(first,))
    late = fifo.put("a")
    assert fifo.take(other) == []
    fifo.end(one, lease, then=Then.READY, done=(second,))
    assert fifo.work_off(other) == [third, late]


def test_a_unit_that_commits_late_is_worked_and_overtakes_nothing(fifo: Queue) -> None:
    worker = fifo.worker()
    with psycopg.connect(fifo.url) as slow:
        late = fifo.put("a", conn=slow)
        early = fifo.put("a")
        assert late < early
        assert fifo.work_off(worker) == [early]
        slow.commit()
        after = fifo.put("a")
    assert fifo.work_off(worker) == [late, after]


def test_a_unit_that_commits_late_while_its_group_is_in_flight_is_worked_next(fifo: Queue) -> None:
    worker = fifo.worker()
    with psycopg.connect(fifo.url) as slow:
        late = fifo.put("a", conn=slow)
        fifo.put("a")
        (lease,) = fifo.take(worker)
        slow.commit()
        after = fifo.put("a")
    fifo.runner.run(fifo.pool.upkeep(fifo.job_id))
    fifo.end(worker, lease)
    assert fifo.work_off(worker) == [late, after]


def test_ids_rise_in_the_order_of_a_group(fifo: Queue) -> None:
    ids = [fifo.put("a") for _ in range(5)]
    assert ids == sorted(set(ids))


@pytest.mark.parametrize("group", ["", "x" * 513])
def test_a_group_is_required_and_has_at_most_512_bytes(fifo: Queue, group: str) -> None:
    assert fifo.put("x" * 512)
    with pytest.raises(psycopg.errors.CheckViolation, match="resource_length"):
        fifo.put(group)


# In flight


@pytest.mark.acceptance("A27")
def test_a27_a_group_is_blocked_until_its_units_are_done(fifo: Queue) -> None:
    first, second = fifo.put("a"), fifo.put("a")
    one, other = fifo.worker(), fifo.worker()
    (lease,) = fifo.take(one, units=1)
    assert lease.ids == (first,)
    assert fifo.take(other) == []
    fifo.end(one, lease)
    assert fifo.work_off(other) == [second]


@pytest.mark.acceptance("A27")
def test_a27_a_group_is_blocked_until_the_lease_of_its_worker_ends(fifo: Queue) -> None:
    first, second = fifo.put("a"), fifo.put("a")
    one, other = fifo.worker(), fifo.worker()
    (lost,) = fifo.take(one, units=1)
    assert fifo.take(other) == []
    fifo.expire(one)
    (alone,) = fifo.take(other)
    assert alone.ids == (first,)
    assert fifo.end(one, lost) == ["a"]  # too late: refused
    fifo.end(other, alone)
    assert fifo.work_off(other) == [second]


def test_other_groups_go_on_while_one_is_in_flight(fifo: Queue) -> None:
    fifo.put("a")
    one, other = fifo.worker(), fifo.worker()
    assert fifo.take(one)
    free = [fifo.put(name) for name in "bcd"]
    assert sorted(fifo.work_off(other)) == free


def test_a_backlog_of_one_group_hides_no_other(fifo: Queue) -> None:
    fifo.db.execute(
        "insert into striped.unit (job_id, resource) select %s, 'hot' from generate_series(1, 120001)", [fifo.job_id]
    )
    one, other = fifo.worker(), fifo.worker()
    (hot,) = fifo.take(one)
    assert hot.more
    behind = fifo.put("b")
    assert fifo.work_off(other) == [behind]


def test_more_than_120000_units_can_be_in_flight(fifo: Queue) -> None:
    fifo.db.execute(
        "insert into striped.unit (job_id, resource) select %s, n %% 121 from generate_series(1, 120001) n",
        [fifo.job_id],
    )
    leases = fifo.take_all(fifo.worker(), units=1000)
    assert sum(len(lease.ids) for lease in leases.values()) == 120_001
    assert fifo.take(fifo.worker()) == []


# Failures


def test_a_group_waits_for_the_retry_of_its_unit(fifo: Queue) -> None:
    first, second = fifo.put("a"), fifo.put("a")
    worker = fifo.worker()
    (lease,) = fifo.take(worker)
    fifo.fail(worker, lease, Fate.READY)
    fifo.put("a")
    assert fifo.take(worker) == []
    fifo.let_time_pass()
    (again,) = fifo.take(worker)
    assert (again.ids[:2], again.attempts[0]) == ((first, second), 1)


def test_a_group_that_skips_goes_on_without_the_unit(skipping: Queue) -> None:
    first, second = skipping.put("a"), skipping.put("a")
    worker = skipping.worker()
    (lease,) = skipping.take(worker)
    skipping.fail(worker, lease, Fate.DELAYED)
    assert skipping.work_off(worker) == [second]
    skipping.let_time_pass()
    assert skipping.work_off(worker) == [first]


def test_a_dead_unit_lets_its_group_go_on_and_comes_back_to_its_place(fifo: Queue) -> None:
    first, second, third = [fifo.put("a") for _ in range(3)]
    worker = fifo.worker()
    (lease,) = fifo.take(worker)
    fifo.fail(worker, lease, Fate.DEAD)
    (lease,) = fifo.take(worker, units=1)
    assert lease.ids == (second,)
    fifo.end(worker, lease)
    assert fifo.one("select striped.revive(%s, 'dead', 'a', null, 100)", [fifo.job_id]) == 1
    assert fifo.work_off(worker) == [first, third]


@pytest.mark.parametrize("way", ["revive", "purge"])
def test_a_held_unit_blocks_its_group_until_a_person_comes(fifo: Queue, way: str) -> None:
    first, second = fifo.put("a"), fifo.put("a")
    worker = fifo.worker()
    (lease,) = fifo.take(worker)
    fifo.fail(worker, lease, Fate.HELD)
    third = fifo.put("a")
    fifo.let_time_pass()
    assert fifo.take(worker) == []
    assert "waits until a person" in said(fifo, "a")
    assert fifo.one(f"select striped.{way}(%s, 'held', 'a', null, 100)", [fifo.job_id]) == 1
    assert fifo.work_off(worker) == ([first] if way == "revive" else []) + [second, third]


def said(queue: Queue, resource: str) -> str:
    return " ".join(sentences(queue.explain(resource), suspended=False))


# Delays


def test_a_delayed_unit_holds_back_those_after_it_alone(fifo: Queue) -> None:
    before, delayed, after = fifo.put("a"), fifo.put("a", due_in=3600), fifo.put("a")
    other = fifo.put("b")
    worker = fifo.worker()
    assert sorted(fifo.work_off(worker)) == [before, other]
    assert f"unit {delayed} is due then, and the 1 after it keep their order" in said(fifo, "a")
    assert fifo.one("select (pending, delayed)::text from striped.job_status") == "(1,1)"
    assert not fifo.one("select striped.is_empty(%s)", [fifo.job_id])
    fifo.let_time_pass()
    assert fifo.work_off(worker) == [delayed, after]


def test_a_group_that_waits_for_a_due_time_costs_no_claims(fifo: Queue) -> None:
    fifo.put("a", due_in=3600)
    worker = fifo.worker()
    for _ in range(3):
        fifo.put("a")
        assert fifo.take(worker) == []
        assert not fifo.runner.run(fifo.pool.poll(worker)).claimable


def test_a_barrier_that_falls_while_its_group_is_in_flight_is_not_forgotten(fifo: Queue) -> None:
    before, delayed, after = fifo.put("a"), fifo.put("a", due_in=3600), fifo.put("a")
    worker = fifo.worker()
    (lease,) = fifo.take(worker)
    assert lease.ids == (before,)
    fifo.let_time_pass()
    fifo.runner.run(fifo.pool.upkeep(fifo.job_id))
    fifo.end(worker, lease)
    assert fifo.work_off(worker) == [delayed, after]


@pytest.mark.parametrize("comes", ["late", "revived"])
def test_a_unit_before_the_barrier_does_not_wait_for_it(fifo: Queue, comes: str) -> None:
    worker = fifo.worker()
    with psycopg.connect(fifo.url) as slow:
        first = fifo.put("a", conn=slow)
        if comes == "revived":
            slow.commit()
            (lease,) = fifo.take(worker)
            fifo.fail(worker, lease, Fate.DEAD)
        delayed, after = fifo.put("a", due_in=3600), fifo.put("a")
        assert fifo.take(worker) == []
        slow.commit()
        fifo.one("select striped.revive(%s, 'dead', null, null, 100)", [fifo.job_id])
    assert fifo.work_off(worker) == [first]
    fifo.let_time_pass()
    assert fifo.work_off(worker) == [delayed, after]


def test_a_delayed_unit_holds_nothing_back_where_groups_skip(skipping: Queue) -> None:
    skipping.put("a", due_in=3600)
    after = skipping.put("a")
    assert skipping.work_off(skipping.worker()) == [after]


def test_a_job_that_changes_its_mind_about_blocking_loses_nothing(fifo: Queue) -> None:
    delayed, after = fifo.put("a", due_in=3600), fifo.put("a")
    held, behind = fifo.put("b"), fifo.put("b")
    worker = fifo.worker()
    fifo.fail(worker, fifo.take_all(worker)["b"], Fate.HELD)
    fifo.apply(replace(FIFO, on_failure="Skip"))
    assert sorted(fifo.work_off(worker)) == [after, behind]
    fifo.apply(FIFO)
    last = fifo.put("a")
    assert fifo.work_off(worker) == []
    fifo.let_time_pass()
    assert fifo.work_off(worker) == [delayed, last]
    assert fifo.one("select id from striped.unit") == held


# What is kept, and what goes


def test_a_payload_may_be_larger_than_1_mib(fifo: Queue) -> None:
    payload = f'"{"x" * 2**21}"'
    fifo.put("a", payload=payload)
    (lease,) = fifo.take(fifo.worker())
    assert lease.payloads == (payload,)


def test_a_unit_waits_for_as_long_as_it_takes(fifo: Queue) -> None:
    unit = fifo.put("a")
    fifo.db.execute("update striped.unit set enqueued_at = now() - interval '1 year'")
    fifo.db.execute("update striped.turn set at = '-infinity' where kind = 'clean'")
    assert fifo.work_off(fifo.worker()) == [unit]


def test_clear_removes_what_waits_and_what_is_in_flight_at_once(fifo: Queue) -> None:
    for _ in range(3):
        fifo.put("a", dedup_id=None)
    worker = fifo.worker()
    (lease,) = fifo.take(worker, units=1)
    assert fifo.one("select striped.clear(%s, 1000)", [fifo.job_id]) == 3
    assert fifo.end(worker, lease) == ["a"]
    assert fifo.work_off(worker) == []
