"""Delegator and Throttled on a real Postgres: who may assign, what workers may take, what a throttle lets through."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from stripedjob.pool.client.delegator import DelegatorPool
from stripedjob.pool.client.worker import WorkerPool
from stripedjob.pool.install.migrate import migrate
from stripedjob.pool.types import Batch, JobSettings, Settlement, Tally, Then

pytestmark = pytest.mark.migrated

JOB = JobSettings("default", "sync", schedule_limit=4, lease_seconds=3, delegated=True)
THROTTLED = replace(JOB, lease_seconds=60, outstanding_max=3, starts_max=100, period_seconds=10, area_label="area")
STARTS = """
create table start (resource text, area text, began timestamptz default statement_timestamp(),
    at timestamptz default clock_timestamp(), outstanding int);
create function note_start() returns trigger language plpgsql as $$ begin
    insert into public.start (resource, area, outstanding) select new.resource, new.area, count(*) from striped.stripe
        where job_id = new.job_id and area is not distinct from new.area and state in ('assigned', 'leased');
    return null; end $$;
create trigger note_start after update of state on striped.stripe for each row
    when (old.state = 'ready' and new.state = 'assigned') execute function note_start();
"""
batches = itertools.count(1)


class Site:
    """A delegated job, a connection to look with, and connections for its parties."""

    def __init__(self, url: str, db: psycopg.Connection) -> None:
        self.url, self.db, self.job_id = url, db, 0
        self.stack = AsyncExitStack()
        self.names = itertools.count(1)

    async def delegator(self) -> DelegatorPool:
        return await self.stack.enter_async_context(DelegatorPool.open(self.url))

    async def worker(self) -> tuple[WorkerPool, int]:
        pool = await self.stack.enter_async_context(WorkerPool.open(self.url))
        return pool, await pool.register(self.job_id, f"w{next(self.names)}")

    def fill(self, resources: int, units: int = 1, payload: str = "{}") -> None:
        self.db.execute(
            "insert into striped.unit (job_id, resource, payload)"
            " select %s, 'r' || lpad((n %% %s)::text, 4, '0'), %s from generate_series(1, %s) n",
            [self.job_id, resources, payload, resources * units],
        )

    def states(self) -> dict[str, int]:
        return dict(self.db.execute("select state::text, count(*)::int from striped.stripe group by 1").fetchall())

    def pause_delegator(self) -> None:
        self.db.execute("update striped.delegator set expires_at = clock_timestamp() - interval '1 s'")


@pytest.fixture
def play(fresh_database: str) -> Iterator[Callable[..., None]]:
    with psycopg.connect(fresh_database, autocommit=True) as db:
        migrate(db)

        def run(scene: Callable[[Site], Awaitable[None]], job: JobSettings = JOB) -> None:
            async def whole() -> None:
                site = Site(fresh_database, db)
                async with site.stack, WorkerPool.open(fresh_database) as pool:
                    site.job_id = await pool.apply_job(job)
                    await scene(site)

            asyncio.run(whole())

        yield run


def term_of(found: int | None) -> int:
    assert found is not None
    return found


async def end(pool: WorkerPool, site: Site, worker: int, leases: list[Any], then: Then = Then.IDLE) -> list[str]:
    ended = tuple(Settlement(lease, then, lease.ids) for lease in leases)
    return list((await pool.settle(site.job_id, Batch(worker, next(batches), ended, Tally()))).refused)


@pytest.mark.acceptance("A08")
def test_of_two_delegators_one_leads_and_a_paused_old_one_assigns_nothing(play: Callable[..., None]) -> None:
    async def scene(site: Site) -> None:
        old, new = await site.delegator(), await site.delegator()
        pool, worker = await site.worker()
        first = term_of(await old.lead(site.job_id, "old"))
        assert await new.lead(site.job_id, "new") is None
        assert (await old.delegate(site.job_id, first)).leading

        site.pause_delegator()
        site.fill(5)
        await pool.upkeep(site.job_id)
        assert await pool.claim(worker, 5, 10) == []
        second = term_of(await new.lead(site.job_id, "new"))
        assert second > first
        turn = await old.delegate(site.job_id, first)
        assert (turn.leading, turn.assigned, site.states()) == (False, 0, {"ready": 5})
        assert (await new.delegate(site.job_id, second)).assigned > 0

        await old.resign(site.job_id, first)  # nor does its end end the other's term
        assert (await new.delegate(site.job_id, second)).leading
        await new.resign(site.job_id, second)
        assert term_of(await old.lead(site.job_id, "old")) > second

    play(scene)


@pytest.mark.acceptance("A24")
def test_a_resource_has_one_assignment_by_constraint_and_workers_take_only_their_own(play: Callable[..., None]) -> None:
    async def scene(site: Site) -> None:
        delegator = await site.delegator()
        term = term_of(await delegator.lead(site.job_id, "d"))
        crew = [await site.worker() for _ in range(3)]
        site.fill(60)
        await delegator.delegate(site.job_id, term)
        for pool, worker in crew:
            assert await pool.claim(worker, 10, 10) == []
        assert (await delegator.delegate(site.job_id, term)).assigned == 30
        rows = site.db.execute("select resource, worker_id from striped.stripe where state = 'assigned'").fetchall()
        theirs = {worker: {r for r, w in rows if w == worker} for _, worker in crew}
        assert [len(mine) for mine in theirs.values()] == [10, 10, 10]
        for pool, worker in crew:
            leases = await pool.claim(worker, 10, 10)
            assert {lease.resource for lease in leases} == theirs[worker]
        with pytest.raises(psycopg.errors.UniqueViolation):
            site.db.execute(
                "insert into striped.stripe (job_id, resource, state, rank, assigned_at, worker_id)"
                " values (%s, 'r0001', 'assigned', now(), now(), %s)",
                [site.job_id, crew[0][1]],
            )
        with pytest.raises(psycopg.errors.CheckViolation):
            site.db.execute("update striped.stripe set worker_id = 1 where state = 'ready'")

    play(scene)


def test_a_workers_next_claim_is_assigned_while_it_works_and_few_resources_are_spread(
    play: Callable[..., None],
) -> None:
    async def scene(site: Site) -> None:
        delegator = await site.delegator()
        term = term_of(await delegator.lead(site.job_id, "d"))
        crew = [await site.worker() for _ in range(2)]
        site.fill(40)
        await delegator.delegate(site.job_id, term)
        for pool, worker in crew:
            await pool.claim(worker, 4, 10)
        assert (await delegator.delegate(site.job_id, term)).assigned == 8
        for pool, worker in crew:
            assert len(await pool.claim(worker, 4, 10)) == 4
        assert (await delegator.delegate(site.job_id, term)).assigned == 8  # 32 are ready: plenty
        site.db.execute("delete from striped.stripe where state = 'ready' and resource > 'r0020'")
        for pool, worker in crew:
            assert len(await pool.claim(worker, 4, 10)) == 4
        left = site.states()["ready"]
        assert left < 16
        assert (await delegator.delegate(site.job_id, term)).assigned == 0  # nobody lacks any
        assert site.states() == {"leased": 16, "ready": left}

    play(scene)


@pytest.mark.acceptance("A23")
def test_what_workers_leave_lying_is_assigned_anew(play: Callable[..., None]) -> None:
    async def scene(site: Site) -> None:
        delegator = await site.delegator()
        term = term_of(await delegator.lead(site.job_id, "d"))
        (dead, dead_id), (gone, gone_id), (slow, slow_id) = [await site.worker() for _ in range(3)]
        site.fill(30)
        await delegator.delegate(site.job_id, term)
        for pool, worker in ((dead, dead_id), (gone, gone_id), (slow, slow_id)):
            await pool.claim(worker, 5, 10)
        await delegator.delegate(site.job_id, term)
        (failed, *_) = await dead.claim(dead_id, 1, 10)
        assert site.states() == {"assigned": 14, "leased": 1, "ready": 15}

        site.db.execute("update striped.worker set expires_at = clock_timestamp() where id = %s", [dead_id])
        await delegator.delegate(site.job_id, term)  # keeps the pool up: the dead one's lease and assignments return
        assert site.db.execute("select count(*) from striped.stripe where worker_id = %s", [dead_id]).fetchone() == (0,)
        state = site.db.execute("select state from striped.stripe where resource = %s", [failed.resource]).fetchone()
        assert state in {("ready",), ("assigned",)}

        await gone.leave(gone_id)
        site.db.execute("update striped.stripe set assigned_at = assigned_at - interval '1 h' where state = 'assigned'")
        await delegator.delegate(site.job_id, term)
        stale = (
            "select count(*) from striped.stripe where state = 'assigned' and assigned_at < now() - interval '1 min'"
        )
        assert site.db.execute(stale).fetchone() == (0,)

    play(scene)


@pytest.mark.acceptance("A14")
def test_the_limit_holds_for_delegated_workers(play: Callable[..., None]) -> None:
    async def scene(site: Site) -> None:
        delegator = await site.delegator()
        term = term_of(await delegator.lead(site.job_id, "d"))
        crew = [await site.worker() for _ in range(4)]
        site.fill(40)
        await delegator.delegate(site.job_id, term)
        for pool, worker in crew:
            await pool.claim(worker, 2, 10)
        assert (await delegator.delegate(site.job_id, term)).assigned == 4
        owners = {w for (w,) in site.db.execute("select worker_id from striped.stripe where state = 'assigned'")}
        assert owners == {crew[0][1], crew[1][1]}
        site.db.execute("update striped.job set schedule_limit = 1")
        pool, worker = crew[1]
        assert await pool.claim(worker, 2, 10) == []
        assert site.db.execute("select wants, working from striped.worker where id = %s", [worker]).fetchone() == (
            0,
            False,
        )
        assert site.states()["assigned"] == 2

    play(scene, replace(JOB, schedule_limit=2))


@pytest.mark.acceptance("A29")
def test_a_throttle_holds_in_each_area(play: Callable[..., None]) -> None:
    async def scene(site: Site) -> None:
        site.db.execute(STARTS)
        for area in ("north", "south"):
            site.db.execute(
                "insert into striped.unit (job_id, resource, payload)"
                " select %s, %s || n, json_build_object('area', %s::text) from generate_series(1, 200) n",
                [site.job_id, area, area],
            )
        site.fill(5)  # these have no area of their own: they are one together
        crew = [await site.worker() for _ in range(3)]
        deadline = asyncio.get_running_loop().time() + 4
        while asyncio.get_running_loop().time() < deadline:
            delegator = await site.delegator()  # a new one each time: what it keeps to is in the database
            term = term_of(await delegator.lead(site.job_id, "d"))
            for _ in range(10):
                await delegator.delegate(site.job_id, term)
                for pool, worker in crew:
                    await end(pool, site, worker, await pool.claim(worker, 8, 10))
            await delegator.resign(site.job_id, term)

        rows = site.db.execute(
            "select area, extract(epoch from began)::float8, extract(epoch from at)::float8, outstanding"
            " from start order by at"
        ).fetchall()
        assert {area for area, *_ in rows} == {"north", "south", ""}
        assert max(outstanding for *_, outstanding in rows) == 3
        for area in ("north", "south"):
            times = [(began, at) for name, began, at, _ in rows if name == area]
            assert len(times) >= 30  # 10 a second, for 4 s, and the bucket's 3
            for i, j in itertools.combinations(range(len(times)), 2):
                seconds = times[j][1] - times[i][0]  # the bucket was looked at in between, the first time and the last
                assert j - i + 1 <= 3 + 10 * seconds + 1e-6

    play(scene, THROTTLED)


def test_a_job_changes_its_strategy_while_it_runs(play: Callable[..., None]) -> None:
    async def scene(site: Site) -> None:
        delegator = await site.delegator()
        term = term_of(await delegator.lead(site.job_id, "d"))
        pool, worker = await site.worker()
        site.fill(20)
        await delegator.delegate(site.job_id, term)
        await pool.claim(worker, 4, 10)
        await delegator.delegate(site.job_id, term)
        assert site.states() == {"assigned": 4, "ready": 16}
        await pool.apply_job(replace(JOB, delegated=False))
        assert site.states() == {"ready": 20}
        assert (await delegator.delegate(site.job_id, term)).assigned == 0
        leases = await pool.claim(worker, 64, 10)
        assert leases
        await pool.apply_job(replace(THROTTLED, area_label=None))
        await pool.upkeep(site.job_id)
        areas = site.db.execute("select distinct area from striped.stripe").fetchall()
        assert areas == [("",)]
        await end(pool, site, worker, leases)
        assert await pool.claim(worker, 64, 10) == []
        await delegator.delegate(site.job_id, term)
        assert len(await pool.claim(worker, 64, 10)) == 3

    play(scene)
