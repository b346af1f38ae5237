"""What decides about an open circuit breaker: one unit of one resource, the probe."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.support.breakers import BREAKS, claimed, failed, half_open, opened, state, units
from tests.support.pool_calls import all_done, count, enqueue, play, settle

from stripedjob.pool.types import Failure, Fate, Settlement, Then

if TYPE_CHECKING:
    import psycopg

    from stripedjob.pool.client.owner import OwnerPool
    from stripedjob.pool.client.worker import WorkerPool

pytestmark = pytest.mark.migrated


def test_half_open_one_unit_of_one_resource_is_claimed_and_closes_it(
    db: psycopg.Connection, fresh_database: str
) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        first = await opened(db, pool, job_id)
        enqueue(db, "many", units=9)
        enqueue(db, "other")
        second = await pool.register(job_id, "x")
        half_open(db)
        await pool.upkeep(job_id)
        assert (await pool.poll(second)).claimable
        (probe,) = await claimed(pool, job_id, second, units=9)
        assert len(probe.ids) == 1
        assert await claimed(pool, job_id, second) == []
        assert await claimed(pool, job_id, first) == []
        assert not (await pool.poll(first)).claimable
        await settle(pool, job_id, second, [all_done(probe)])
        assert state(db) == (0, None, 0, None)
        assert len(await claimed(pool, job_id, first)) >= 4

    play(fresh_database, scene, BREAKS)


def test_a_probe_that_fails_opens_it_for_twice_as_long_and_uses_up_no_attempt(
    db: psycopg.Connection, fresh_database: str
) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        worker = await opened(db, pool, job_id)
        before = [attempts for _, _, attempts in units(db)]
        assert before == [1, 1, 0], "the try with which it opened was spared"
        for failures, opened_times, seconds in ((4, 2, 20), (5, 3, 35), (6, 4, 35)):
            half_open(db)
            (probe,) = await claimed(pool, job_id, worker)
            await settle(pool, job_id, worker, [failed(probe, to=Fate.DEAD)])
            assert state(db) == (failures, "ValueError", opened_times, seconds)
            assert [attempts for _, _, attempts in units(db)] == before
            assert {state for _, state, _ in units(db)} <= {"ready", "delayed"}
        half_open(db)
        (probe,) = await claimed(pool, job_id, worker)
        await settle(pool, job_id, worker, [failed(probe, "TimeoutError")])
        assert state(db) == (1, "TimeoutError", 5, 35)

    play(fresh_database, scene, BREAKS)


@pytest.mark.parametrize("end", ["died", "left", "given back", "held", "crashed", "resumed", "cancelled", "cleared"])
def test_the_place_of_a_probe_is_free_when_its_lease_is_over(
    db: psycopg.Connection, fresh_database: str, people: OwnerPool, end: str
) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        worker = await opened(db, pool, job_id)
        other = await pool.register(job_id, "x")
        half_open(db)
        (probe,) = await claimed(pool, job_id, worker)
        before = state(db)
        match end:
            case "died":
                db.execute("update striped.worker set expires_at = '-infinity' where id = %s", [worker])
            case "left":
                await pool.leave(worker)
            case "given back":
                await settle(pool, job_id, worker, [Settlement(probe, Then.READY)])
            case "held":
                fault = Failure(probe.ids[0], Fate.HELD, 0, 0, "ask ann")
                await settle(pool, job_id, worker, [Settlement(probe, Then.IDLE, (), (fault,))])
            case "crashed":
                fault = Failure(probe.ids[0], Fate.READY, 0, 1, "died")
                await settle(pool, job_id, worker, [Settlement(probe, Then.READY, (), (fault,))])
            case "resumed":
                await pool.resume(worker, 1, [])
            case "cancelled":
                people.cancel(job_id, None, probe.ids, "ann", "")
                await settle(pool, job_id, worker, [failed(probe)])
            case "cleared":
                people.clear(job_id)
                enqueue(db, "new")
        await pool.upkeep(job_id)
        assert state(db)[:3] == before[:3]
        db.execute("update striped.worker set settled_at = settled_at - interval '1 second'")  # it may come no more
        assert (await pool.poll(other)).claimable
        assert len(await claimed(pool, job_id, other)) == 1
        assert await claimed(pool, job_id, other) == []

    play(fresh_database, scene, BREAKS)


def test_a_probe_whose_handler_recorded_it_itself_closes_it(db: psycopg.Connection, fresh_database: str) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        worker = await opened(db, pool, job_id)
        half_open(db)
        (probe,) = await claimed(pool, job_id, worker)
        values = [job_id, worker, probe.resource, probe.fence, list(probe.ids)]
        assert db.execute("select striped.complete(%s, %s, %s, %s, %s)", values).fetchone() == (True,)
        await settle(pool, job_id, worker, [Settlement(probe, Then.IDLE)])
        assert state(db) == (0, None, 0, None)

    play(fresh_database, scene, BREAKS)


def test_a_probe_that_is_out_when_a_person_closes_it_decides_nothing_any_more(
    db: psycopg.Connection, fresh_database: str, people: OwnerPool
) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        worker = await opened(db, pool, job_id)
        half_open(db)
        (probe,) = await claimed(pool, job_id, worker)
        assert people.resume(job_id, None)
        await settle(pool, job_id, worker, [failed(probe)])
        assert state(db) == (1, "ValueError", 0, None)

    play(fresh_database, scene, BREAKS)


@pytest.mark.parametrize("throttled", [False, True])
def test_a_delegator_assigns_nothing_while_it_is_open_and_then_the_probe_alone(
    db: psycopg.Connection, fresh_database: str, *, throttled: bool
) -> None:
    def delegated(job_id: int, term: int) -> int:
        row = db.execute("select assigned from striped.delegate(%s, %s)", [job_id, term]).fetchone()
        assert row is not None
        return int(row[0])

    async def scene(pool: WorkerPool, job_id: int) -> None:
        row = db.execute("select striped.lead(%s, 'd')", [job_id]).fetchone()
        assert row is not None
        term = row[0]
        for resource in "abcdefgh":
            enqueue(db, resource)
        workers = [await pool.register(job_id, name) for name in "xy"]
        for worker in workers:
            assert await claimed(pool, job_id, worker) == []
        assert delegated(job_id, term) == 4
        leases = await pool.claim(workers[0], 64, 1)
        assert len(leases) == 2
        await settle(pool, job_id, workers[0], [failed(one) for one in leases])
        for worker in workers:
            assert await claimed(pool, job_id, worker) == []
        assert count(db, "select count(*) from striped.stripe where state = 'assigned'") == 0
        assert delegated(job_id, term) == 0
        half_open(db)
        for worker in workers:
            assert (await pool.poll(worker)).claimable
            assert await claimed(pool, job_id, worker) == []
        assert delegated(job_id, term) == 1
        assert delegated(job_id, term) == 0
        found = [one for worker in workers for one in await pool.claim(worker, 64, 1)]
        assert len(found) == 1
        assert delegated(job_id, term) == 0

    job = replace(BREAKS, breaker_failures=2, delegated=True)
    play(fresh_database, scene, replace(job, outstanding_max=9, starts_max=99, period_seconds=1) if throttled else job)
