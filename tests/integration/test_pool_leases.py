"""Leases, as the runtime takes and ends them: exclusion, fences, crashes, limits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.support.pool_calls import JOB, all_done, claimed, count, enqueue, play, settle

from stripedjob.pool.errors import WorkerLostError

if TYPE_CHECKING:
    import psycopg

    from stripedjob.pool.client.worker import WorkerPool

pytestmark = pytest.mark.migrated

COMPLETE = "select striped.complete(%s, %s, 'a', %s, %s)"


def test_a_lease_is_exclusive_and_its_fence_grows(db: psycopg.Connection, fresh_database: str) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        enqueue(db, "a", units=3)
        one, two = await pool.register(job_id, "one"), await pool.register(job_id, "two")
        (first,) = await claimed(pool, job_id, one, units=2)
        assert (len(first.ids), first.more) == (2, True)
        assert await claimed(pool, job_id, two) == []
        assert await settle(pool, job_id, one, [all_done(first)]) == []
        (second,) = await claimed(pool, job_id, two)
        assert second.fence > first.fence
        assert (len(second.ids), second.more) == (1, False)
        assert await settle(pool, job_id, two, [all_done(second)]) == []

    play(fresh_database, scene)
    assert count(db, "select count(*) from striped.unit") == 0
    assert count(db, "select count(*) from striped.stripe") == 0


@pytest.mark.acceptance("A35")
def test_a35_a_late_settlement_changes_nothing_and_is_counted(db: psycopg.Connection, fresh_database: str) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        enqueue(db, "a")
        paused, other = await pool.register(job_id, "paused"), await pool.register(job_id, "other")
        (old,) = await claimed(pool, job_id, paused)
        db.execute("update striped.worker set expires_at = now() - interval '1 s' where id = %s", [paused])
        (new,) = await claimed(pool, job_id, other)
        assert new.fence > old.fence
        assert await settle(pool, job_id, paused, [all_done(old)]) == ["a"]
        with pytest.raises(WorkerLostError):
            await pool.renew(paused)
        with pytest.raises(WorkerLostError):
            await pool.claim(paused, 1, 1)

    play(fresh_database, scene)
    assert count(db, "select count(*) from striped.unit") == 1
    assert count(db, "select stale from striped.job") == 1


@pytest.mark.parametrize("then", ["the next settlement", "the next claim", "clear"])
def test_what_a_transaction_recorded_is_counted_though_its_worker_died(
    db: psycopg.Connection, fresh_database: str, then: str
) -> None:
    units = 1 if then == "the next claim" else 2  # which finds nothing left, and settles that

    async def scene(pool: WorkerPool, job_id: int) -> None:
        enqueue(db, "a", units=units)
        doomed, other = await pool.register(job_id, "doomed"), await pool.register(job_id, "other")
        (lease,) = await claimed(pool, job_id, doomed)
        done = list(lease.ids[:1])
        assert db.execute(COMPLETE, [job_id, doomed, lease.fence, done]).fetchone() == (True,)
        db.execute("update striped.worker set expires_at = now() - interval '1 s' where id = %s", [doomed])
        if then == "clear":
            db.execute("select striped.clear(%s, 1000)", [job_id])
        else:
            (lease,) = await claimed(pool, job_id, other)
            assert len(lease.ids) == units - 1
            assert await settle(pool, job_id, other, [all_done(lease)]) == []
        await pool.leave(other)

    play(fresh_database, scene)
    assert count(db, "select count(*) from striped.unit") == 0
    assert count(db, "select total_done from striped.job_status") == (1 if then == "clear" else units)


@pytest.mark.acceptance("A42")
def test_a42_a_unit_that_kills_its_workers_is_held(db: psycopg.Connection, fresh_database: str) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        enqueue(db, "poison")
        for crash in range(1, 4):
            worker = await pool.register(job_id, "doomed")
            (lease,) = await claimed(pool, job_id, worker)
            assert lease.crashes == (crash - 1,)
            db.execute("update striped.worker set expires_at = now() - interval '1 s'")
            await pool.upkeep(job_id)

    play(fresh_database, scene, replace(JOB, crash_threshold=3))
    assert count(db, "select count(*) from striped.unit where state = 'held' and crashes = 3") == 1
    assert count(db, "select crashed from striped.job") == 3


def test_after_a_death_with_many_leases_each_is_leased_alone_and_the_culprit_found(
    db: psycopg.Connection, fresh_database: str
) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        for resource in ("innocent", "poison"):
            enqueue(db, resource, units=2)
        worker = await pool.register(job_id, "doomed")
        # A worker alone gets half of what is ready at a time, so that others find some.
        leases = await claimed(pool, job_id, worker) + await claimed(pool, job_id, worker)
        assert sorted(lease.resource for lease in leases) == ["innocent", "poison"]
        db.execute("update striped.worker set expires_at = now() - interval '1 s'")
        worker = await pool.register(job_id, "next")
        alone = [(await claimed(pool, job_id, worker))[0] for _ in range(2)]
        assert [(lease.suspect, len(lease.ids), lease.more) for lease in alone] == [(True, 1, True)] * 2
        good = next(lease for lease in alone if lease.resource == "innocent")
        await settle(pool, job_id, worker, [all_done(good)])
        db.execute("update striped.worker set expires_at = now() - interval '1 s'")
        await pool.upkeep(job_id)

    play(fresh_database, scene)
    crashes: dict[str, int] = dict(db.execute("select resource, max(crashes) from striped.unit group by 1").fetchall())
    assert crashes == {"innocent": 0, "poison": 1}


@pytest.mark.acceptance("A14")
def test_a14_no_more_workers_than_the_limit_may_claim(db: psycopg.Connection, fresh_database: str) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        for number in range(40):
            enqueue(db, f"r{number}")
        workers = [await pool.register(job_id, f"w{number}") for number in range(5)]
        at_work = {worker: await claimed(pool, job_id, worker, resources=1) for worker in workers}
        assert [len(at_work[worker]) for worker in workers] == [1, 1, 0, 0, 0]
        await settle(pool, job_id, workers[0], [all_done(at_work[workers[0]][0])])
        await pool.leave(workers[0])
        assert [len(await claimed(pool, job_id, worker, resources=1)) for worker in workers[1:]] == [1, 1, 0, 0]

    play(fresh_database, scene, replace(JOB, schedule_limit=2))


@pytest.mark.acceptance("A16")
def test_a16_a_lowered_limit_stops_the_youngest(db: psycopg.Connection, fresh_database: str) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        for number in range(40):
            enqueue(db, f"r{number}")
        workers = [await pool.register(job_id, f"w{number}") for number in range(4)]
        for worker in workers:
            assert await claimed(pool, job_id, worker, resources=1)
        await pool.apply_job(replace(JOB, schedule_limit=1))
        assert [len(await claimed(pool, job_id, worker, resources=1)) for worker in workers] == [1, 0, 0, 0]

    play(fresh_database, scene)


@pytest.mark.acceptance("A18")
def test_a18_a_limit_of_0_lets_nobody_work(db: psycopg.Connection, fresh_database: str) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        enqueue(db, "a")
        worker = await pool.register(job_id, "w")
        assert await claimed(pool, job_id, worker) == []
        assert not (await pool.poll(worker)).claimable

    play(fresh_database, scene, replace(JOB, schedule_limit=0))


def test_no_wake_up_is_lost_when_units_come_in_while_the_resource_is_leased(
    db: psycopg.Connection, fresh_database: str
) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        enqueue(db, "a")
        worker = await pool.register(job_id, "w")
        (lease,) = await claimed(pool, job_id, worker)
        folded, unfolded = enqueue(db, "a")[0], None
        await pool.upkeep(job_id)
        unfolded = enqueue(db, "a")[0]
        await settle(pool, job_id, worker, [all_done(lease)])
        (rest,) = await claimed(pool, job_id, worker)
        assert rest.ids == (folded, unfolded)

    play(fresh_database, scene)


def test_leaving_gives_everything_back_and_counts_no_crash(db: psycopg.Connection, fresh_database: str) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        enqueue(db, "a")
        worker = await pool.register(job_id, "w")
        assert await claimed(pool, job_id, worker)
        await pool.leave(worker)
        (lease,) = await claimed(pool, job_id, await pool.register(job_id, "next"))
        assert (lease.crashes, lease.suspect) == ((0,), False)

    play(fresh_database, scene)


@pytest.mark.acceptance("A22")
def test_a22_a_busy_head_costs_the_free_ones_nothing(db: psycopg.Connection, fresh_database: str) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        busy = {f"busy-{n}" for n in range(20)}
        for resource in sorted(busy):
            enqueue(db, resource, units=100)
        holder = await pool.register(job_id, "holder")
        while held := await claimed(pool, job_id, holder):
            busy -= {lease.resource for lease in held}
        assert not busy
        for n in range(900):
            enqueue(db, f"free-{n}")
        worker = await pool.register(job_id, "worker")
        looks = 0
        while leases := await claimed(pool, job_id, worker):
            assert {lease.resource[:5] for lease in leases} == {"free-"}
            await settle(pool, job_id, worker, [all_done(lease) for lease in leases])
            looks += 1
        assert count(db, "select count(*) from striped.unit where resource like 'free-%'") == 0
        assert looks < 900 / 64 + 50  # the last ones spread over the workers: half an even share a claim
        assert not (await pool.poll(worker)).claimable

    play(fresh_database, scene)
