"""What happened to units and resources: each thing once, with what it was committed with, for as long as it is kept."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from tests.support.pages import HOSTILE
from tests.support.queues import FIFO, Queue, queue

from stripedjob.pool.client.viewer import ViewerPool
from stripedjob.pool.types import Batch, Failure, Fate, Settlement, Tally, Then

if TYPE_CHECKING:
    from collections.abc import Iterator

JOB = replace(FIFO, on_failure="Skip", history_seconds=3600)


@pytest.fixture(params=[0, 3600], ids=["removed when done", "kept when done"])
def pool(queue_database: str, request: pytest.FixtureRequest) -> Iterator[Queue]:
    with queue(queue_database, replace(JOB, completed_seconds=request.param)) as made:
        yield made


@pytest.fixture
def one_pool(queue_database: str) -> Iterator[Queue]:
    with queue(queue_database, JOB) as made:
        yield made


def history(pool: Queue, of: str | int | None, *, events: int = 100, before: int | None = None) -> Any:
    return ViewerPool(pool.db, "striped").history(pool.job_id, of, before, events=events)


def told(pool: Queue, of: str | int | None) -> list[tuple[Any, ...]]:
    """Return what happened, the oldest first, without ids and times."""
    keys = ("event", "unit", "attempt", "who", "state", "reason")
    found = history(pool, of)["events"]
    assert sorted(found, key=lambda one: -one["id"]) == found
    return [tuple(one[key] for key in keys) for one in reversed(found)]


def test_a_unit_from_its_beginning_to_its_end(pool: Queue) -> None:
    unit, worker = pool.put("a"), pool.worker("w")
    (lease,) = pool.take(worker)
    pool.end(worker, lease)
    assert told(pool, unit) == [
        ("enqueued", unit, None, None, "ready", None),
        ("leased", unit, 1, "w", None, None),
        ("done", unit, 1, "w", None, None),
    ]
    assert told(pool, "a") == told(pool, unit)
    assert [one["fence"] for one in history(pool, unit)["events"]] == [lease.fence, lease.fence, None]


def test_many_units_of_many_resources_are_leased_and_done_as_they_were(pool: Queue) -> None:
    units = {name: [pool.put(name) for _ in range(n)] for n, name in enumerate(("a", "b", "c"), 1)}
    worker = pool.worker("w")
    leases = pool.take_all(worker, units=2)
    for lease in leases.values():
        pool.end(worker, lease)
    for name, ids in units.items():
        found = [one for one in history(pool, name)["events"] if one["event"] in ("leased", "done")]
        assert {(one["unit"], one["fence"]) for one in found} == {(i, leases[name].fence) for i in ids[:2]}
        assert len(found) == 2 * len(ids[:2])


@pytest.mark.parametrize("to", [Fate.READY, Fate.DELAYED, Fate.HELD, Fate.DEAD])
def test_a_try_that_failed_says_why_and_what_follows(pool: Queue, to: Fate) -> None:
    unit, worker = pool.put("a"), pool.worker("w")
    (lease,) = pool.take(worker)
    pool.end(worker, lease, then=Then.READY, done=(), failed=(Failure(unit, to, 1, 0, "no price"),))
    assert told(pool, unit)[2:] == [("failed", unit, 1, "w", to.value, "no price")]
    assert history(pool, unit)["events"][0]["fence"] == lease.fence


def test_a_late_settlement_leaves_no_history(pool: Queue) -> None:
    unit, late, other = pool.put("a"), pool.worker("late"), pool.worker("other")
    (lease,) = pool.take(late)
    pool.expire(late)
    (again,) = pool.take(other)
    assert pool.end(late, lease) == ["a"]
    pool.end(other, again)
    assert [(one[0], one[3]) for one in told(pool, unit)] == [
        ("enqueued", None),
        ("leased", "late"),
        ("lost", "late"),
        ("crashed", "late"),
        ("leased", "other"),
        ("done", "other"),
    ]


def test_one_late_settlement_among_others_is_not_told(one_pool: Queue) -> None:
    late, other = one_pool.worker("late"), one_pool.worker("other")
    units = {name: one_pool.put(name) for name in ("a", "b")}
    leases = one_pool.take_all(late)
    one_pool.db.execute(
        "update striped.stripe set worker_id = %s, fence = nextval('striped.fence') where resource = 'a'", [other]
    )
    ended = tuple(Settlement(leases[name], Then.IDLE, leases[name].ids) for name in ("a", "b"))
    settle = one_pool.pool.settle(one_pool.job_id, Batch(late, 1, ended, Tally()))
    assert one_pool.runner.run(settle).refused == ["a"]
    assert [one[0] for one in told(one_pool, units["a"])] == ["enqueued", "leased"]
    assert [one[0] for one in told(one_pool, units["b"])] == ["enqueued", "leased", "done"]


def test_what_a_handlers_own_transaction_does_is_told_with_its_commit(pool: Queue) -> None:
    unit, worker = pool.put("a"), pool.worker("w")
    (lease,) = pool.take(worker)
    complete = "select striped.complete(%s::int, %s::bigint, 'a', %s::bigint, %s::bigint[])"
    values = [pool.job_id, worker, lease.fence, [unit]]
    for end in ("rollback", "commit"):
        pool.db.execute("begin")
        assert pool.one(complete, values)
        pool.db.execute(end.encode())
        expected = ["enqueued", "leased"] + ["done"] * (end == "commit")
        assert [one[0] for one in told(pool, unit)] == expected
    pool.end(worker, lease, done=())
    assert [one[0] for one in told(pool, unit)] == ["enqueued", "leased", "done"]


def test_what_is_rolled_back_has_not_happened_and_what_commits_late_stands_in_order(pool: Queue) -> None:
    with psycopg.connect(pool.url) as late, psycopg.connect(pool.url) as lost:
        first = pool.put("a", conn=late)
        gone = pool.put("a", conn=lost)
        last = pool.put("a")
        worker = pool.worker("w")
        (lease,) = pool.take(worker)
        pool.end(worker, lease)
        lost.rollback()
        late.commit()
    assert history(pool, gone)["events"] == []
    assert [one[0] for one in told(pool, last)] == ["enqueued", "leased", "done"]
    (lease,) = pool.take(worker)
    pool.end(worker, lease)
    assert [one[0] for one in told(pool, first)] == ["enqueued", "leased", "done"]


def test_a_claim_whose_answer_is_lost_is_told_as_given_back_and_one_rolled_back_not_at_all(pool: Queue) -> None:
    unit, worker = pool.put("a"), pool.worker("w")
    pool.runner.run(pool.pool.upkeep(pool.job_id))
    for end in ("rollback", "commit"):
        pool.db.execute("begin")
        pool.db.execute("select striped.claim(%s, 0, 1, 1, 1000)", [worker])
        pool.db.execute(end.encode())
    pool.db.execute("select striped.resume(%s, 1, '{}')", [worker])
    assert [one[0] for one in told(pool, unit)] == ["enqueued", "leased", "returned"]


def test_a_worker_that_leaves_gives_back(pool: Queue) -> None:
    unit, worker = pool.put("a"), pool.worker("w")
    pool.take(worker)
    pool.db.execute("select striped.leave(%s)", [worker])
    assert told(pool, unit)[-1] == ("returned", None, None, "w", None, None)


def test_what_people_do_says_who_and_why(pool: Queue) -> None:
    worker, units = pool.worker("w"), {}
    for name, to in (("held", Fate.HELD), ("dead", Fate.DEAD), ("gone", Fate.DEAD), ("later", Fate.DELAYED)):
        units[name] = pool.put(name)
        (lease,) = pool.take(worker)
        failed = Failure(units[name], to, 1, 0, "no", 3600)
        pool.end(worker, lease, then=Then.IDLE, done=(), failed=(failed,))
    job = pool.job_id
    me = pool.one("select session_user::text")
    pool.db.execute("select striped.revive(%s, 'held', null, null, 9, 'ann')", [job])
    pool.db.execute("select striped.revive(%s, 'dead', 'dead', null, 9)", [job])
    pool.db.execute("select striped.purge(%s, 'dead', null, null, 9, 'bob')", [job])
    pool.db.execute("select striped.retry_now(%s, null, null, '', 0, 9, 'cyd')", [job])
    assert told(pool, units["held"])[-1] == ("released", units["held"], None, "ann", "ready", None)
    assert told(pool, units["dead"])[-1] == ("retried", units["dead"], None, me, "ready", None)
    assert told(pool, units["gone"])[-1] == ("purged", units["gone"], None, "bob", None, "no")
    assert told(pool, units["later"])[-1] == ("hurried", units["later"], None, "cyd", "ready", None)


def test_a_cancelled_unit_says_when_it_was_asked_and_when_it_ended(pool: Queue) -> None:
    waits, runs, worker = pool.put("a"), pool.put("b"), pool.worker("w")
    leases = pool.take_all(worker)
    pool.end(worker, leases["a"], then=Then.READY, done=())
    pool.runner.run(pool.pool.upkeep(pool.job_id))
    pool.db.execute(
        "select * from striped.cancel(%s, 'ready', null, null, '', 0, 'ann', 'wrong price', 9)", [pool.job_id]
    )
    assert told(pool, waits)[-1] == ("cancelled", waits, None, "ann", "dead", "wrong price")
    assert told(pool, runs)[-1] == ("cancelled", runs, None, "ann", None, "wrong price")
    pool.end(worker, leases["b"], then=Then.READY, done=())
    pool.runner.run(pool.pool.upkeep(pool.job_id))
    assert told(pool, runs)[-1] == ("cancelled", runs, None, None, "dead", "cancelled by ann: wrong price")


def test_a_pause_is_told_once_and_belongs_to_units_that_were_there(pool: Queue) -> None:
    before, worker = pool.put("a"), pool.worker("w")
    (lease,) = pool.take(worker)
    pool.end(worker, lease)
    unit = pool.put("a")
    for _ in range(2):
        pool.db.execute("select striped.pause_resource(%s, 'a', 'ann', 'closed')", [pool.job_id])
    for _ in range(2):
        pool.db.execute("select striped.resume_resource(%s, 'a', 'bob')", [pool.job_id])
    pauses = [("paused", None, None, "ann", None, "closed"), ("resumed", None, None, "bob", None, None)]
    assert told(pool, unit) == [("enqueued", unit, None, None, "ready", None), *pauses]
    assert told(pool, "a")[-2:] == pauses
    assert [one[0] for one in told(pool, before)] == ["enqueued", "leased", "done"]


def test_a_pause_of_the_job_is_told_of_it_of_each_resource_and_of_units_that_were_there(pool: Queue) -> None:
    before, worker = pool.put("a"), pool.worker("w")
    (lease,) = pool.take(worker)
    pool.end(worker, lease)
    unit, me = pool.put("a"), pool.one("select session_user::text")
    for _ in range(2):
        pool.db.execute("select striped.pause_job(%s, 'ann', 'closed')", [pool.job_id])
    for _ in range(2):
        pool.db.execute("select striped.resume_job(%s, 'bob')", [pool.job_id])
    pool.db.execute("select striped.pause_job(%s, 'cyd', '')", [pool.job_id])
    pool.db.execute("select striped.resume_job(%s)", [pool.job_id])
    expected = [("paused", "ann", "closed"), ("resumed", "bob", None), ("paused", "cyd", None), ("resumed", me, None)]
    pauses = [(event, None, None, who, None, why) for event, who, why in expected]
    assert told(pool, None) == pauses
    assert {(one["resource"], one["fence"]) for one in history(pool, None)["events"]} == {(None, None)}
    assert told(pool, unit) == [("enqueued", unit, None, None, "ready", None), *pauses]
    assert told(pool, "a")[-4:] == pauses
    assert told(pool, "nobody") == pauses
    assert [one[0] for one in told(pool, before)] == ["enqueued", "leased", "done"]
    later = pool.put("a")
    assert [one[0] for one in told(pool, later)] == ["enqueued"]


def test_whoever_closes_the_breaker_has_resumed_the_job(one_pool: Queue) -> None:
    one_pool.db.execute(
        "update striped.job set alike = 20, alike_kind = 'HTTP 503', openings = 1, opened_at = clock_timestamp(),"
        " open_until = clock_timestamp()"
    )
    one_pool.db.execute("select striped.resume_job(%s, 'ann')", [one_pool.job_id])
    assert told(one_pool, None) == [("resumed", None, None, "ann", None, None)]


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_pause_of_the_job_that_is_rolled_back_has_not_happened(one_pool: Queue, end: str) -> None:
    one_pool.db.execute("begin")
    one_pool.db.execute("select striped.pause_job(%s, 'ann', '')", [one_pool.job_id])
    one_pool.db.execute(end.encode())
    assert [one[0] for one in told(one_pool, None)] == ["paused"] * (end == "commit")


def test_pages_have_each_event_once(one_pool: Queue) -> None:
    worker = one_pool.worker("w")
    for _ in range(5):
        one_pool.put("a")
    (lease,) = one_pool.take(worker)
    for _ in range(3):
        one_pool.db.execute("select striped.pause_job(%s, 'ann', '')", [one_pool.job_id])
        one_pool.db.execute("select striped.resume_job(%s)", [one_pool.job_id])
    one_pool.end(worker, lease)
    whole = history(one_pool, "a")["events"]
    assert [one["event"] for one in whole].count("paused") == 3
    assert len(whole) == 21
    for size in (1, 4, 21):
        found, before = [], None
        while True:
            page = history(one_pool, "a", events=size, before=before)
            assert len(page["events"]) <= size
            found += page["events"]
            before = page["next"]
            if before is None:
                break
        assert found == whole


def test_off_writes_nothing_and_shows_nothing(queue_database: str) -> None:
    with queue(queue_database, replace(JOB, history_seconds=0)) as pool:
        unit, worker = pool.put("a"), pool.worker("w")
        (lease,) = pool.take(worker)
        pool.end(worker, lease)
        pool.db.execute("select striped.pause_resource(%s, 'a', 'ann', '')", [pool.job_id])
        pool.db.execute("select striped.pause_job(%s, 'ann', '')", [pool.job_id])
        assert pool.one("select count(*) from striped.history") == 0
        found = history(pool, unit)
        assert (found["kept_seconds"], found["events"], found["next"]) == (0, [], None)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_and_reasons_come_back_as_they_were(one_pool: Queue, name: str) -> None:
    unit, worker = one_pool.put(name), one_pool.worker(name)
    (lease,) = one_pool.take(worker)
    one_pool.end(worker, lease, then=Then.IDLE, done=(), failed=(Failure(unit, Fate.DEAD, 1, 0, name),))
    assert told(one_pool, name)[-1] == ("failed", unit, 1, name, "dead", name)


def test_of_another_job_nothing_is_seen(one_pool: Queue) -> None:
    unit = one_pool.put("a")
    other = one_pool.one(
        "select striped.apply_job('default', 'other', 0, 1, 0, 30, 5, 'Skip', 0, 0, p_history_seconds => 9)"
    )
    one_pool.db.execute("select striped.pause_job(%s, 'ann', '')", [one_pool.job_id])
    for of in ("a", unit, None):
        assert ViewerPool(one_pool.db, "striped").history(other, of, None, events=9)["events"] == []
