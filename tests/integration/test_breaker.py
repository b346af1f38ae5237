"""The circuit breaker: where a job's last tries all failed alike, nothing is claimed for a while, then one probes."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.support.breakers import BREAKS, claimed, failed, half_open, opened, state, units
from tests.support.pool_calls import all_done, count, enqueue, play, recorded, settle

from stripedjob.pool.types import Failure, Fate, Settlement, Then
from stripedjob.runtime.outcome import Fault, Outcome, Verdict
from stripedjob.runtime.worker.decide import RetryPolicy
from stripedjob.runtime.worker.decide import settle as decide

if TYPE_CHECKING:
    import psycopg

    from stripedjob.pool.client.owner import OwnerPool
    from stripedjob.pool.client.worker import WorkerPool

pytestmark = pytest.mark.migrated


def test_it_opens_after_so_many_tries_that_failed_alike_of_all_workers(
    db: psycopg.Connection, fresh_database: str, people: OwnerPool
) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        for resource in "abcd":
            enqueue(db, resource, units=2)
        workers = [await pool.register(job_id, name) for name in "xy"]
        leases = await claimed(pool, job_id, workers[0])
        for lease in leases[:2]:
            await settle(pool, job_id, workers[0], [failed(lease, then=Then.READY)])
        assert state(db) == (2, "ValueError", 0, None)
        (lease,) = (await claimed(pool, job_id, workers[1]))[:1]
        await settle(pool, job_id, workers[1], [failed(lease, then=Then.READY)])
        assert state(db) == (3, "ValueError", 1, 10)
        enqueue(db, "new")
        for worker in workers:
            assert await claimed(pool, job_id, worker) == []
            poll = await pool.poll(worker)
            assert not poll.claimable
        spared = db.execute(
            "select attempts, due_at - clock_timestamp() < '11 s' from striped.unit where id = %s", lease.ids
        )
        assert spared.fetchone() == (0, True)
        status = people.status(job_id)
        assert (status.breaker_failures, status.breaker_kind) == (3, "ValueError")
        assert status.breaker_seconds is not None
        assert 5 < status.breaker_seconds <= 10
        found = people.explain(job_id, "new")["breaker"]
        assert (found["failures"], found["kind"], found["probe"]) == (3, "ValueError", None)

    play(fresh_database, scene, BREAKS)


def test_one_kind_in_a_row_is_counted_and_what_is_done_begins_anew(db: psycopg.Connection, fresh_database: str) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        for resource in "abcdefgh":
            enqueue(db, resource)
        worker = await pool.register(job_id, "w")
        leases = iter(await claimed(pool, job_id, worker))
        for kind, expected in (("ValueError", 1), ("ValueError", 2), ("HTTP 503", 1), ("HTTP 503", 2)):
            await settle(pool, job_id, worker, [failed(next(leases), kind)])
            assert state(db) == (expected, kind, 0, None)
        await settle(pool, job_id, worker, [all_done(next(leases))])
        assert state(db) == (0, None, 0, None)
        await settle(pool, job_id, worker, [failed(next(leases)), all_done(next(leases))])
        assert state(db) == (0, None, 0, None), "what was settled together had one that was done"
        await settle(pool, job_id, worker, [failed(next(leases))])
        assert state(db) == (1, "ValueError", 0, None)

    play(fresh_database, scene, BREAKS)


def test_units_of_one_call_are_one_try_and_are_spared_together(db: psycopg.Connection, fresh_database: str) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        enqueue(db, "a", units=4)
        enqueue(db, "b", units=4)
        worker = await pool.register(job_id, "w")
        policy = RetryPolicy(attempts_max=1, per_resource=True)
        outcome = Outcome(0, 0, 4, tuple(Fault(i, Verdict.RETRY, "E: 7") for i in range(4)), final=True)
        leases = await claimed(pool, job_id, worker, units=4)
        settled = [decide(lease, outcome, policy, random.Random(1)) for lease in leases]
        await settle(pool, job_id, worker, settled[:1])
        assert state(db) == (1, "E", 0, None)
        await settle(pool, job_id, worker, settled[1:])
        assert state(db)[:3] == (2, "E", 1)
        assert {(name, ends) for name, ends, _ in units(db)} == {("a", "dead"), ("b", "delayed")}

    play(fresh_database, scene, replace(BREAKS, breaker_failures=2))


def test_what_is_no_try_or_was_set_aside_on_purpose_does_not_count(
    db: psycopg.Connection, fresh_database: str, people: OwnerPool
) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        for resource in "abcde":
            enqueue(db, resource)
        worker = await pool.register(job_id, "w")
        a, b, c, d, e = await claimed(pool, job_id, worker)
        assert people.cancel(job_id, None, a.ids, "ann", "").asked == 1
        held = Settlement(b, Then.IDLE, (), (Failure(b.ids[0], Fate.HELD, 0, 0, "ask ann"),))
        dead = Settlement(c, Then.IDLE, (), (Failure(c.ids[0], Fate.DEAD, 0, 0, "HTTP 404"),))
        crashed = Settlement(d, Then.READY, (), (Failure(d.ids[0], Fate.READY, 0, 1, "died"),))
        await settle(pool, job_id, worker, [failed(a), held, dead, crashed, Settlement(e, Then.READY)])
        assert state(db) == (0, None, 0, None)
        db.execute("update striped.worker set expires_at = '-infinity'")
        await pool.upkeep(job_id)
        assert state(db) == (0, None, 0, None)

    play(fresh_database, scene, BREAKS)


def test_a_late_settlement_does_not_count(db: psycopg.Connection, fresh_database: str) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        for resource in "abc":
            enqueue(db, resource)
        worker = await pool.register(job_id, "w")
        leases = await claimed(pool, job_id, worker)
        db.execute("update striped.stripe set fence = nextval('striped.fence') where resource <> 'a'")
        assert len(await settle(pool, job_id, worker, [failed(one) for one in leases])) == 2
        assert state(db) == (1, "ValueError", 0, None)

    play(fresh_database, scene, BREAKS)


@pytest.mark.parametrize("way", ["Skip", "Dead", "Block"])
def test_what_fails_while_it_is_open_uses_up_no_attempt(
    db: psycopg.Connection, fresh_database: str, people: OwnerPool, way: str
) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        for resource in ("last", "between", "slow", "good"):
            enqueue(db, resource, units=2)
        db.execute("update striped.unit set attempts = 4")
        worker = await pool.register(job_id, "w")
        late = {one.resource: one for one in await claimed(pool, job_id, worker)}
        await opened(db, pool, job_id)
        again = failed(late["between"], "KeyError", *((Fate.READY, Then.WAIT) if way == "Block" else (Fate.DELAYED,)))
        await settle(pool, job_id, worker, [failed(late["last"], to=Fate.DEAD, then=Then.READY), again])
        assert state(db)[:3] == (3, "ValueError", 1)
        half_open(db)
        other = await pool.register(job_id, "x")
        (probe,) = await claimed(pool, job_id, other)
        await settle(pool, job_id, worker, [failed(late["slow"], to=Fate.DEAD), all_done(late["good"])])
        assert state(db)[:3] == (3, "ValueError", 1), "only the probe decides"
        await settle(pool, job_id, other, [Settlement(probe, Then.READY)])
        found = {(name, attempts) for name, _, attempts in units(db) if name in ("last", "between", "slow")}
        assert found == {("last", 4), ("between", 4), ("slow", 4)}
        assert people.status(job_id).dead == 0
        db.execute("select striped.resume_job(%s)", [job_id])
        half_open(db)
        last = "select array_agg(id order by id) from striped.unit where resource = 'last'"
        for _ in range(3):
            await pool.upkeep(job_id)
        found_again = {one.resource: one.ids for one in await claimed(pool, job_id, worker, units=9)}
        if way == "Block":
            assert db.execute(last).fetchone() == (list(found_again["last"]),), "in order"
        assert {"last", "between"} <= set(found_again)

    play(fresh_database, scene, replace(BREAKS, on_failure=way))


def test_a_worker_hears_what_became_of_the_tries_that_were_spared(db: psycopg.Connection, fresh_database: str) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        for resource in "abcde":
            enqueue(db, resource)
        worker = await pool.register(job_id, "w")
        leases = await claimed(pool, job_id, worker)
        fates = ((Fate.DEAD, Then.IDLE), (Fate.DELAYED, Then.IDLE), (Fate.DEAD, Then.IDLE), (Fate.READY, Then.WAIT))
        ended = [failed(lease, to=to, then=then) for lease, (to, then) in zip(leases, fates, strict=False)]
        held = Settlement(leases[4], Then.IDLE, (), (Failure(leases[4].ids[0], Fate.HELD, 0, 0, "ask ann"),))
        db.execute("update striped.stripe set fence = nextval('striped.fence') where resource = 'b'")
        found = await recorded(pool, job_id, worker, [*ended, held])
        assert found.refused == ["b"]
        (lost,), last, kept = leases[1].ids, leases[3].ids[0], [one.failed[0] for one in ended[:3]]
        assert set(found.spared) == {last}
        assert found.spared[last][:2] == (Fate.READY, 0)
        assert 9 < found.spared[last].after_seconds <= 10
        assert [found.of(one) for one in kept] == kept
        assert lost not in found.spared
        later = await recorded(pool, job_id, worker, [])
        assert later == ([], {})
        enqueue(db, "f")
        half_open(db)
        (probe, *_) = await claimed(pool, job_id, worker)
        failure = failed(probe, to=Fate.DEAD)
        found = await recorded(pool, job_id, worker, [failure])
        assert found.of(failure.failed[0]).to is Fate.DELAYED
        assert found.of(failure.failed[0]).attempts == 0
        assert units(db)[-1][1] in ("ready", "delayed")

    play(fresh_database, scene, BREAKS)


def test_a_person_closes_it_and_an_apply_leaves_it_alone(
    db: psycopg.Connection, fresh_database: str, people: OwnerPool
) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        worker = await opened(db, pool, job_id)
        enqueue(db, "new")
        await pool.apply_job(replace(BREAKS, generation=2, breaker_failures=9))
        assert state(db)[:3] == (3, "ValueError", 1)
        assert people.pause(job_id, None, "ann", "")
        assert people.resume(job_id, None)
        assert state(db) == (0, None, 0, None)
        assert people.status(job_id).schedule_limit == 4
        assert not people.resume(job_id, None)
        (lease,) = await claimed(pool, job_id, worker)
        await pool.apply_job(replace(BREAKS, generation=3, breaker_failures=1))
        await settle(pool, job_id, worker, [failed(lease)])
        assert state(db)[:3] == (1, "ValueError", 1)
        assert people.resume(job_id, None), "open, and not paused"
        assert people.status(job_id).schedule_limit == 4
        half_open(db)
        (lease, *_) = await claimed(pool, job_id, worker)
        await settle(pool, job_id, worker, [failed(lease)])
        assert state(db)[2] == 1
        await pool.apply_job(replace(BREAKS, generation=4, breaker_failures=0))
        assert state(db) == (0, None, 0, None)
        settings = people.settings("default", "sync")
        assert settings == replace(BREAKS, generation=4, breaker_failures=0)

    play(fresh_database, scene, BREAKS)


def test_who_sleeps_for_it_wakes_when_it_is_half_open(db: psycopg.Connection, fresh_database: str) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        worker = await opened(db, pool, job_id)
        await settle(pool, job_id, worker, [])
        seconds = (await pool.poll(worker)).sleep_seconds
        assert 0 <= seconds <= 1

    play(fresh_database, scene, replace(BREAKS, backoff_seconds=0))


def test_what_is_done_asks_nothing_of_it_and_writes_nothing(db: psycopg.Connection, fresh_database: str) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        enqueue(db, "a", units=3)
        worker = await pool.register(job_id, "w")
        for _ in range(3):
            (lease,) = await claimed(pool, job_id, worker)
            before = count(db, "select xmin::text::bigint from striped.job")
            await settle(pool, job_id, worker, [all_done(lease)])
            assert count(db, "select xmin::text::bigint from striped.job") == before

    for function in ("breaker_admits", "lock_probe", "heed_breaker", "judge_probe", "open_breaker", "close_breaker"):
        db.execute(f"drop function striped.{function}".encode())
    play(fresh_database, scene, BREAKS)


@pytest.mark.parametrize(
    ("before", "kinds", "after"),
    [
        ((None, 0), ["a"], ("a", 1, None)),
        (("a", 1), ["a"], ("a", 2, None)),
        (("a", 2), ["a", "a", "a"], ("a", 3, 1)),
        (("a", 2), ["b", "a", "a"], ("a", 2, None)),
        (("b", 9), ["b"], ("b", 10, 1)),
        ((None, 0), ["b", "a", "a", "a", "b"], ("a", 3, 4)),
        (("a", 1), ["a", None, None, None], ("a", 2, None)),
        (("a", 1), ["b", None, "b", "b", None], ("b", 3, 4)),
    ],
)
def test_a_run_is_of_one_kind(
    db: psycopg.Connection, before: tuple[str | None, int], kinds: list[str | None], after: tuple[str, int, int | None]
) -> None:
    assert db.execute("select * from striped.breaker_run(%s, %s, %s, 3)", [*before, kinds]).fetchone() == after
