"""What the pool refuses or remembers, call by call: each of these is lost by changing one condition of a statement."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.support.queues import FIFO, Queue, queue

from stripedjob.pool.types import Batch, Settlement, Tally, Then

if TYPE_CHECKING:
    from collections.abc import Iterator

MUTEX = replace(FIFO, on_failure="Skip", schedule_limit=2)


@pytest.fixture
def pool(queue_database: str) -> Iterator[Queue]:
    with queue(queue_database, MUTEX) as made:
        yield made


def settle(pool: Queue, batch: Batch) -> list[str]:
    return list(pool.runner.run(pool.pool.settle(pool.job_id, batch)).refused)


def upkeep(pool: Queue) -> None:
    pool.runner.run(pool.pool.upkeep(pool.job_id))


def test_a_wake_that_is_folded_while_its_resource_is_leased_is_not_forgotten(pool: Queue) -> None:
    worker = pool.worker()
    pool.put("a")
    (lease,) = pool.take(worker)
    second = pool.put("a")
    upkeep(pool)
    pool.end(worker, lease)
    (rest,) = pool.take(worker)
    assert rest.ids == (second,)


def test_a_batch_that_comes_again_is_no_stale_one(pool: Queue) -> None:
    worker = pool.worker()
    unit = pool.put("a")
    (lease,) = pool.take(worker)
    batch = Batch(worker, 1, (Settlement(lease, Then.IDLE, (unit,)),), Tally(claimed=1))
    assert settle(pool, batch) == []
    assert settle(pool, batch) == []
    assert pool.one("select (total_done, total_claimed, total_stale)::text from striped.job_status") == "(1,1,0)"


def test_units_are_completed_under_the_newest_fence_alone_and_by_its_worker_alone(pool: Queue) -> None:
    worker, other = pool.worker(), pool.worker()
    unit = pool.put("a")
    (first,) = pool.take(worker)
    pool.end(worker, first, then=Then.READY, done=())
    (second,) = pool.take(worker)
    complete = "select striped.complete(%s::int, %s::bigint, 'a', %s::bigint, %s::bigint[])"
    assert not pool.one(complete, [pool.job_id, worker, first.fence, [unit]])
    assert not pool.one(complete, [pool.job_id, other, second.fence, [unit]])
    assert pool.one(complete, [pool.job_id, worker, second.fence, [unit]])


def test_what_may_have_killed_its_worker_is_handed_out_alone(pool: Queue) -> None:
    first, worker = pool.worker(), pool.worker()
    units = [pool.put("a") for _ in range(3)]
    pool.take(first)
    pool.expire(first)
    upkeep(pool)
    (suspect,) = pool.take(worker)
    assert (suspect.suspect, suspect.more, suspect.ids) == (True, True, (units[0],))


def test_what_a_worker_did_is_counted_when_it_has_gone(pool: Queue) -> None:
    worker = pool.worker()
    unit = pool.put("a")
    (lease,) = pool.take(worker)
    settle(pool, Batch(worker, 1, (Settlement(lease, Then.IDLE, (unit,)),), Tally(claimed=1, lock_tries=3)))
    pool.runner.run(pool.pool.leave(worker))
    assert pool.one("select (total_done, total_claimed, total_lock_tries)::text from striped.job_status") == "(1,1,3)"


def test_a_worker_that_comes_back_loses_what_it_does_not_know_of(pool: Queue) -> None:
    worker = pool.worker()
    for resource in ("a", "b"):
        pool.put(resource)
    (known, _) = pool.take(worker) + pool.take(worker)
    assert pool.runner.run(pool.pool.resume(worker, 1, [known.fence, 10**9])) == [10**9]
    assert pool.one("select array_agg(resource) from striped.stripe where state = 'leased'") == [known.resource]


def test_a_renewal_names_the_leases_that_are_lost(pool: Queue) -> None:
    worker = pool.worker()
    pool.put("a")
    (lease,) = pool.take(worker)
    assert pool.runner.run(pool.pool.renew(worker, [lease.fence, 10**9])) == [10**9]


def test_a_slot_is_free_when_its_worker_has_nothing_left(pool: Queue) -> None:
    workers = [pool.worker() for _ in range(3)]
    for resource in ("a", "b"):
        pool.put(resource)
    (lease,) = pool.take(workers[0])
    assert pool.take(workers[1])
    pool.end(workers[0], lease)
    assert pool.take(workers[0]) == []
    pool.put("c")
    assert [one.resource for one in pool.take(workers[2])] == ["c"]


def test_what_is_handed_out_fits_into_the_bytes_that_were_asked_for(pool: Queue) -> None:
    worker = pool.worker()
    units = [pool.put("a", payload=f'"{"x" * 1000}"') for _ in range(5)]
    upkeep(pool)
    (lease,) = pool.runner.run(pool.pool.claim(worker, 1, 100, 1500))
    assert (lease.ids, lease.more) == (tuple(units[:2]), True)


def assigned(pool: Queue, term: int) -> int:
    """Have the delegator, under this term, assign what it may; returns how many resources."""
    return int(pool.one("select (striped.delegate(%s, %s)).assigned", [pool.job_id, term]))


def throttled(pool: Queue, starts_max: int, period_seconds: int) -> tuple[int, int]:
    """Let two be out at a time, and so many start in a period; five resources are ready. Gives a worker and a term."""
    job = replace(MUTEX, delegated=True, outstanding_max=2, starts_max=starts_max, period_seconds=period_seconds)
    pool.apply(job)
    upkeep(pool)
    worker = pool.worker()
    for number in range(5):
        pool.put(f"r{number}")
    term = pool.one("select striped.lead(%s, 'd')", [pool.job_id])
    assert pool.take(worker) == []  # which says that it wants some
    return worker, int(term)


def test_what_is_leased_counts_as_outstanding(pool: Queue) -> None:
    worker, term = throttled(pool, starts_max=1_000_000, period_seconds=1)
    started = 0
    for _ in range(5):
        started += assigned(pool, term)
        pool.take(worker)
    assert started == 2
    assert pool.one("select count(*) from striped.stripe where state = 'leased'") == 2


def test_a_start_takes_a_token(pool: Queue) -> None:
    worker, term = throttled(pool, starts_max=2, period_seconds=3600)
    started = 0
    for _ in range(5):
        started += assigned(pool, term)
        for lease in pool.take(worker):
            pool.end(worker, lease)
    assert started == 2
