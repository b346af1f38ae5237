"""Who is whom: workers that come back over another connection, after a restore, or from a stop that was too long."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from typing import TYPE_CHECKING

import psycopg
import pytest
from tests.support.pool_calls import all_done, claimed, count, enqueue, play, settle

from stripedjob.pool.client.worker import WorkerPool
from stripedjob.pool.connection import connect_for_handler
from stripedjob.pool.errors import PoolError, PoolUnreachableError, WorkerLostError

if TYPE_CHECKING:
    from collections.abc import Callable

    from stripedjob.pool.types import Lease

pytestmark = pytest.mark.migrated

COMPLETE = "select striped.complete(%s, %s, %s, %s, %s)"
EXPIRE = "update striped.worker set expires_at = now() - interval '1 s' where id = %s"


def test_an_id_is_never_given_out_twice_though_the_database_was_restored(
    db: psycopg.Connection, fresh_database: str
) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        enqueue(db, "a")
        before = await pool.register(job_id, "before")
        (old,) = await claimed(pool, job_id, before)
        # What a backup from before all this knows: neither the worker, nor its lease, nor that its fence was given out.
        db.execute("update striped.stripe set state = 'ready', worker_id = null, fence = null")
        db.execute("delete from striped.worker")
        db.execute("select setval('striped.fence', %s, false)", [old.fence])
        after = await pool.register(job_id, "after")
        assert after != before
        (new,) = await claimed(pool, job_id, after)
        assert new.fence == old.fence
        with pytest.raises(WorkerLostError):
            await pool.renew(before, [old.fence])
        with pytest.raises(WorkerLostError):
            await pool.resume(before, 1, [old.fence])
        assert db.execute(COMPLETE, [job_id, before, "a", old.fence, list(old.ids)]).fetchone() == (False,)
        assert await settle(pool, job_id, before, [all_done(old)]) == ["a"]
        assert await settle(pool, job_id, after, [all_done(new)]) == []

    play(fresh_database, scene)
    assert count(db, "select total_done from striped.job_status") == 1


@pytest.mark.parametrize("how", ["renew", "resume"])
def test_a_worker_hears_which_of_its_leases_a_stand_by_lacks(
    db: psycopg.Connection, fresh_database: str, how: str
) -> None:
    sessions = itertools.count(1)

    async def scene(pool: WorkerPool, job_id: int) -> None:
        enqueue(db, "a")
        enqueue(db, "b")
        worker = await pool.register(job_id, "w")
        leases = (await claimed(pool, job_id, worker)) + (await claimed(pool, job_id, worker))
        fences = {lease.resource: lease.fence for lease in leases}
        db.execute("update striped.stripe set state = 'ready', worker_id = null where resource = 'a'")
        ask = pool.renew if how == "renew" else (lambda worker, fences: pool.resume(worker, next(sessions), fences))
        assert await ask(worker, list(fences.values())) == [fences["a"]]
        assert await ask(worker, [fences["b"]]) == []

    play(fresh_database, scene)


def test_what_an_earlier_session_still_sends_is_refused(db: psycopg.Connection, fresh_database: str) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        enqueue(db, "a")
        worker = await pool.register(job_id, "w")
        await pool.upkeep(job_id)
        async with WorkerPool.open(fresh_database) as newer:
            assert await newer.resume(worker, 1, []) == []
            with pytest.raises(PoolUnreachableError, match="SJ002"):
                await pool.claim(worker, 10, 10)
            (lease,) = await newer.claim(worker, 10, 10)
            assert await newer.resume(worker, 2, [lease.fence]) == []
            with pytest.raises(PoolUnreachableError, match="SJ002"):  # sent before, and come only now
                await pool.resume(worker, 1, [])
            assert await newer.renew(worker, [lease.fence]) == []

    play(fresh_database, scene)


def test_a_worker_that_is_claiming_is_not_considered_dead_and_a_dead_one_cannot_claim(
    db: psycopg.Connection, fresh_database: str
) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        enqueue(db, "a")
        worker = await pool.register(job_id, "w")
        await pool.upkeep(job_id)
        db.execute(EXPIRE, [worker])
        with psycopg.connect(fresh_database) as claiming:
            claimed_row = claiming.execute(
                "select resources from striped.claim(%s, 0, 9, 9, 1000)", [worker]
            ).fetchone()
            assert claimed_row == (["a"],)
            await pool.upkeep(job_id)
            assert count(db, "select count(*) from striped.worker") == 1
        db.execute(EXPIRE, [worker])
        await pool.upkeep(job_id)
        assert count(db, "select count(*) from striped.worker") == 0
        with pytest.raises(WorkerLostError):
            await pool.claim(worker, 9, 9)

    play(fresh_database, scene)
    assert count(db, "select count(*) from striped.stripe where worker_id is not null") == 0


def test_a_lease_without_a_worker_is_swept_whatever_made_it(db: psycopg.Connection, fresh_database: str) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        for resource in "abc":
            enqueue(db, resource)
        worker = await pool.register(job_id, "w")
        (mine,) = await claimed(pool, job_id, worker, resources=1)
        db.execute(
            "update striped.stripe set state = 'leased', worker_id = 4711, fence = 1 where resource <> %s",
            [mine.resource],
        )
        db.execute("update striped.turn set at = '-infinity' where kind = 'clean'")
        await pool.clean(job_id)
        rows = db.execute("select worker_id, count(*) from striped.stripe group by 1 order by 1").fetchall()
        assert rows == [(worker, 1), (None, 2)]

    play(fresh_database, scene)


def test_an_open_transaction_of_a_stopped_worker_ends_with_its_lease(
    db: psycopg.Connection, fresh_database: str
) -> None:
    """Else the rows that it has locked keep the next holder of its resource waiting for as long as it is stopped."""
    db.execute("create table public.account (id int primary key, n int)")
    db.execute("insert into public.account values (1, 0)")

    async def scene(pool: WorkerPool, job_id: int) -> None:
        enqueue(db, "a")
        stopped = await pool.register(job_id, "stopped", "stripedjob of stopped")
        other = await pool.register(job_id, "other", "stripedjob of other")
        (old,) = await claimed(pool, job_id, stopped)
        handler = connect_for_handler(fresh_database, "stripedjob of stopped")
        handler.execute("begin")
        handler.execute("update account set n = n + 1")
        db.execute(EXPIRE, [stopped])
        (new,) = await claimed(pool, job_id, other)
        with connect_for_handler(fresh_database, "stripedjob of other") as next_holder:
            next_holder.execute("set statement_timeout = '20 s'")
            next_holder.execute("update account set n = n + 1")
        with pytest.raises(psycopg.OperationalError):
            handler.execute(COMPLETE, [job_id, stopped, "a", old.fence, list(old.ids)])
        assert await settle(pool, job_id, other, [all_done(new)]) == []

    play(fresh_database, scene)
    assert count(db, "select n from public.account") == 1


def waits(db: psycopg.Connection, pid: int) -> bool:
    return count(db, f"select cardinality(pg_blocking_pids({pid}))") > 0


def eventually(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_schedules_query_keeps_nobody_waiting(db: psycopg.Connection, fresh_database: str) -> None:
    """Neither who claims nor who settles, completes or keeps the pool up; a second firing of it finds it under way."""
    db.execute("create table public.gate (id int)")

    def fire(found: list[int | None]) -> None:
        with psycopg.connect(fresh_database, autocommit=True) as conn:
            query = "select r, p from (select count(*) from public.gate) g, (values ('s', '{}')) v(r, p); -- all of it;"
            row = conn.execute("select striped.fire(1, 'cron', now(), %s)", [query]).fetchone()
            assert row is not None
            found.append(row[0])

    async def scene(pool: WorkerPool, job_id: int) -> None:
        enqueue(db, "a")
        worker = await pool.register(job_id, "w")
        db.execute("select striped.fire(%s, 'cron', now(), null)", [job_id])
        db.execute("update striped.turn set at = now() - interval '1 h' where kind = 'schedule'")
        found: list[int | None] = []
        with psycopg.connect(fresh_database) as gate:
            gate.execute("lock table public.gate")
            firing = threading.Thread(target=fire, args=(found,))
            firing.start()
            eventually(lambda: count(db, "select count(*) from pg_locks where not granted") == 1)
            async with asyncio.timeout(20):
                (lease,) = await claimed(pool, job_id, worker)
                await pool.renew(worker, [lease.fence])
                assert await settle(pool, job_id, worker, [all_done(lease)]) == []
                await pool.clean(job_id)
                db.execute("select striped.leave(%s)", [worker])
            assert db.execute("select striped.fire(%s, 'cron', now(), null)", [job_id]).fetchone() == (None,)
        firing.join()
        assert found == [1]
        assert count(db, "select count(*) from striped.unit where resource = 's'") == 1

    play(fresh_database, scene)


@pytest.mark.parametrize("role", ["the same role", "another role"])
def test_a_handler_that_stops_before_its_commit_stops_neither_the_job_nor_for_long_its_resource(
    db: psycopg.Connection, fresh_database: str, role: str
) -> None:
    """It has completed its units, so that its resource is locked; new units of that come in, and its lease runs out."""
    name = "stripedjob of stopped" if role == "the same role" else "a session that may not be ended"

    async def scene(pool: WorkerPool, job_id: int) -> None:
        enqueue(db, "a")
        stopped, other = (
            await pool.register(job_id, "stopped", "stripedjob of stopped"),
            await pool.register(job_id, "o"),
        )
        (old,) = await claimed(pool, job_id, stopped)
        handler = connect_for_handler(fresh_database, name)
        try:
            handler.execute("begin")
            assert handler.execute(COMPLETE, [job_id, stopped, "a", old.fence, list(old.ids)]).fetchone() == (True,)
            for resource in "ab":
                enqueue(db, resource)
            db.execute(EXPIRE, [stopped])
            found: dict[str, Lease] = {}
            for _ in range(2 if role == "another role" else 20):
                found |= {lease.resource: lease for lease in await claimed(pool, job_id, other)}
            assert set(found) == ({"b"} if role == "another role" else {"a", "b"})
        finally:
            handler.close()

    play(fresh_database, scene)


def test_what_fails_in_a_message_of_two_calls_leaves_the_session_in_order(
    db: psycopg.Connection, fresh_database: str
) -> None:
    """Whichever of them it is; and what the first has done stays done."""

    async def scene(pool: WorkerPool, job_id: int) -> None:
        worker = await pool.register(job_id, "w")
        enqueue(db, "a")
        with pytest.raises(PoolError, match="integer"):
            await pool.claim(worker, 1, 1, upkeep_of="x")  # type: ignore[arg-type] # Postgres refuses it
        assert count(db, "select count(*) from striped.wake") == 1
        with pytest.raises(WorkerLostError):
            await pool.claim(worker + 1, 1, 1, upkeep_of=job_id)
        assert count(db, "select count(*) from striped.wake") == 0
        (lease,) = await pool.claim(worker, 1, 1, upkeep_of=job_id)
        assert lease.resource == "a"
        assert await pool.claim(worker, 1, 1, upkeep_of=job_id) == []

    play(fresh_database, scene)
