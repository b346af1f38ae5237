"""Who goes first, with each strategy: as docs/fairness.md says."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
import pytest

from stripedjob.pool.client.delegator import DelegatorPool
from stripedjob.pool.client.worker import WorkerPool
from stripedjob.pool.install.migrate import migrate
from stripedjob.pool.types import Batch, JobSettings, Lease, Settlement, Tally, Then

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Play = Callable[[Callable[["Site"], Awaitable[None]]], None]

pytestmark = pytest.mark.migrated

MUTEX = JobSettings("default", "sync", lease_seconds=60)
DELEGATOR = replace(MUTEX, delegated=True)
JOBS = {
    "Mutex": MUTEX,
    "FIFO": replace(MUTEX, on_failure="Block"),
    "Delegator": DELEGATOR,
    "Throttled": replace(DELEGATOR, outstanding_max=10, starts_max=1000, period_seconds=1),
}
TURNS_MAX = 5  # of a delegator, until a worker has what it asks for
OTHERS = 20
HOT_UNITS = 100


class Site:
    """One worker that takes one unit at a time, and a delegator where the job has one."""

    def __init__(self, url: str, job: JobSettings) -> None:
        self.url, self.job = url, job
        self.job_id = self.worker = self.term = 0
        self.numbers = itertools.count(1)

    async def open(self, stack: AsyncExitStack) -> None:
        self.db = stack.enter_context(psycopg.connect(self.url, autocommit=True))
        migrate(self.db)
        self.pool = await stack.enter_async_context(WorkerPool.open(self.url))
        self.job_id = await self.pool.apply_job(self.job)
        self.worker = await self.pool.register(self.job_id, "worker")
        self.delegator = await stack.enter_async_context(DelegatorPool.open(self.url))
        self.term = await self.delegator.lead(self.job_id, "delegator") or 0

    async def enqueue(self, resource: str, units: int = 1, importance: int = 0) -> None:
        self.db.execute(
            "insert into striped.unit (job_id, resource, payload, importance)"
            " select %s, %s, '{}', %s from generate_series(1, %s)",
            [self.job_id, resource, importance, units],
        )
        await self.pool.upkeep(self.job_id)

    def has_waited(self, resource: str, seconds: int) -> None:
        self.db.execute(
            "update striped.stripe set rank = rank - make_interval(secs => %s) where resource = %s", [seconds, resource]
        )

    async def work(self) -> str:
        """Work one unit; returns of which resource."""
        lease = await self._claim()
        then = Then.READY if lease.more else Then.IDLE
        batch = Batch(self.worker, next(self.numbers), (Settlement(lease, then, lease.ids),), Tally())
        assert (await self.pool.settle(self.job_id, batch)).refused == []
        return lease.resource

    async def _claim(self) -> Lease:
        for _ in range(TURNS_MAX):
            if self.job.delegated:
                await self.delegator.delegate(self.job_id, self.term)
            leases = await self.pool.claim(self.worker, 1, 1)
            if leases:
                return leases[0]
        raise AssertionError(f"there was nothing in {TURNS_MAX} turns")


@pytest.fixture(params=JOBS)
def play(request: pytest.FixtureRequest, fresh_database: str) -> Play:
    def run(scene: Callable[[Site], Awaitable[None]]) -> None:
        async def whole() -> None:
            async with AsyncExitStack() as stack:
                site = Site(fresh_database, JOBS[request.param])
                await site.open(stack)
                await scene(site)

        asyncio.run(whole())

    return run


def test_a_hot_resource_starves_nobody(play: Play) -> None:
    async def scene(site: Site) -> None:
        await site.enqueue("hot", HOT_UNITS)
        for number in range(OTHERS):
            await site.enqueue(f"other-{number}", 2)
        order = []
        for _ in range(2 * (OTHERS + 1)):
            order.append(await site.work())
            await site.enqueue("hot")  # more comes than is done
        everyone = {"hot", *(f"other-{number}" for number in range(OTHERS))}
        assert set(order[: OTHERS + 1]) == set(order[OTHERS + 1 :]) == everyone

    play(scene)


CAME = [f"resource-{number * 7 % OTHERS}" for number in range(OTHERS)]
ROWS = "from unnest(%s::text[]) with ordinality r(resource, n)"
AGAIN = {  # values, order in which they are put in (what is due first, last), and what somebody does
    "due": ("'delayed', now() + (n - 100) * interval '1 s', null, null", "desc", "select"),
    "hurried": (
        "'delayed', now() + interval '1 h', null, 'x'",
        "",
        "select striped.retry_now(%s, null, null, '', 0, 1000)",
    ),
    "revived": ("'dead', null, now(), 'x'", "", "select striped.revive(%s, 'dead', null, null, 1000)"),
}


@pytest.mark.parametrize("statements", [1, 4, OTHERS])
def test_resources_go_in_the_order_in_which_they_came(play: Play, statements: int) -> None:
    async def scene(site: Site) -> None:
        few = OTHERS // statements
        for begin in range(0, OTHERS, few):
            site.db.execute(
                f"insert into striped.unit (job_id, resource, payload) select %s, resource, '{{}}' {ROWS},"
                " generate_series(1, 3) again order by again, n".encode(),
                [site.job_id, CAME[begin : begin + few]],
            )
        await site.pool.upkeep(site.job_id)
        assert [await site.work() for _ in CAME] == CAME

    play(scene)


@pytest.mark.parametrize("how", AGAIN)
def test_resources_that_are_ready_again_go_by_their_times_or_their_units(play: Play, how: str) -> None:
    values, order, act = AGAIN[how]

    async def scene(site: Site) -> None:
        site.db.execute(
            "insert into striped.unit (job_id, resource, payload, state, due_at, finished_at, reason)"
            f" select %s, resource, '{{}}', {values} {ROWS} order by n {order}".encode(),
            [site.job_id, CAME],
        )
        site.db.execute(act.encode(), [site.job_id] if "%s" in act else None)
        await site.pool.upkeep(site.job_id)
        assert [await site.work() for _ in CAME] == CAME

    play(scene)


@pytest.mark.acceptance("A45")
@pytest.mark.parametrize(("waited", "first"), [(9 * 60 - 5, "high"), (9 * 60 + 5, "low")])
def test_importance_is_a_head_start_of_a_minute_each(play: Play, waited: int, first: str) -> None:
    async def scene(site: Site) -> None:
        await site.enqueue("low", importance=1)
        site.has_waited("low", waited)
        await site.enqueue("high", importance=10)
        assert await site.work() == first

    play(scene)


def test_a_low_one_gets_its_turn_while_higher_ones_keep_coming(play: Play) -> None:
    async def scene(site: Site) -> None:
        await site.enqueue("low", importance=-100)
        for number in range(OTHERS):
            await site.enqueue(f"high-{number}", importance=100)
            assert await site.work() == f"high-{number}"
        site.has_waited("low", 200 * 60)
        await site.enqueue("late", importance=100)
        assert await site.work() == "low"

    play(scene)
