"""Whole workers on a real Postgres and a real Valkey."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import psycopg
import pytest
from tests.support.worker_env import PATIENCE_SECONDS, Site, drained

from stripedjob.pool.client.worker import WorkerPool
from stripedjob.pool.errors import PoolUnreachableError
from stripedjob.runtime import clock
from stripedjob.runtime.executor.supervisor import HandlerError
from stripedjob.runtime.worker.decide import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.engines import RestartablePostgres, RestartableValkey

    from stripedjob.pool.types import Lease
    from stripedjob.runtime.worker.loop import Worker

pytestmark = pytest.mark.migrated


MISSED_SECONDS_MAX = 2.0  # after the worker was busy; an idle one asks by itself every 3 s


async def eventually(said: Callable[[], Any]) -> None:
    """Wait until it is so; the scene has the time limit."""
    while not said():
        await asyncio.sleep(0.02)


def play(site: Site, act: Callable[[Worker], Awaitable[None]], function: str = "pause", **changes: Any) -> None:
    """Let one worker work until nothing is left, while something happens to it."""

    async def scene() -> None:
        async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE_SECONDS):
            worker = await site.worker(stack, site.handler(function, database=None), **changes)
            await asyncio.gather(drained(site, [worker]), act(worker))

    asyncio.run(scene())


@pytest.mark.parametrize("workers", [1, 4])
def test_workers_drain_a_pool(fresh_database: str, fresh_valkey: str, workers: int) -> None:
    site = Site(fresh_database, fresh_valkey)
    site.fill(4000, 200)
    site.drain(site.handler("act"), workers)
    status = site.status()
    assert [status[f"total_{name}"] for name in ("done", "stale", "held", "dead", "lock_refusals")] == [
        4000,
        0,
        0,
        0,
        0,
    ]
    assert site.sql("select count(*) from striped.stripe") == [(0,)]


@pytest.mark.parametrize(
    ("function", "per_resource"), [("record", False), ("record_async", False), ("record_batch", True)]
)
def test_effect_and_completion_commit_together(fresh_database: str, function: str, per_resource: bool) -> None:  # noqa: FBT001
    site = Site(fresh_database, policy=RetryPolicy(attempts_max=2, backoff_seconds=0.01))
    site.fill(200, 20)
    site.fill(1, 1, '"error"')
    site.drain(site.handler(function, per_resource=per_resource, database=site.database), slots=2)
    status = site.status()
    done, dead = status["total_done"], status["total_dead"]
    assert site.sql("select count(*), count(distinct unit) from effect") == [(done, done)]
    assert (done + dead, status["total_stale"]) == (201, 0)
    assert 1 <= dead <= (11 if per_resource else 1)  # a batch fails as a whole


@pytest.mark.acceptance("A35")
def test_a_lost_lease_rolls_its_transaction_back(fresh_database: str) -> None:
    site = Site(fresh_database)
    site.fill(1, 1, "0.6")

    async def act(_worker: Worker) -> None:
        await eventually(lambda: site.sql("select 1 from striped.stripe where state = 'leased'"))
        site.sql("update striped.stripe set fence = nextval('striped.fence')")  # as if it had passed to another
        await eventually(lambda: site.status()["total_stale"])
        site.sql("update striped.stripe set state = 'ready', worker_id = null where state = 'leased'")

    async def scene() -> None:
        async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE_SECONDS):
            worker = await site.worker(stack, site.handler("record", database=site.database))
            await asyncio.gather(drained(site, [worker]), act(worker))

    asyncio.run(scene())
    assert site.sql("select count(*) from effect") == [(1,)]


@pytest.mark.acceptance("A38")
def test_a_worker_taken_for_dead_stops_and_starts_anew(fresh_database: str) -> None:
    site = Site(fresh_database)
    site.fill(20, 20, "0.1")

    async def act(worker: Worker) -> None:
        await eventually(lambda: site.status()["working"])
        ids.add(worker._worker_id)
        site.sql("update striped.worker set expires_at = now() - interval '1 minute'")
        await eventually(lambda: worker._worker_id not in ids | {0})
        ids.add(worker._worker_id)

    ids: set[int] = set()
    play(site, act)
    assert site.status()["total_done"] == 20
    assert len(ids) == 2


def test_a_lease_that_cannot_be_renewed_ends_the_work_in_time(restartable_postgres: RestartablePostgres) -> None:
    site = Site(restartable_postgres.url)
    site.job = replace(site.job, lease_seconds=3)
    site.apply()
    site.fill(1, 1, "0.2")
    site.fill(1, 1, "3600")
    runs: list[int] = []

    async def scene() -> None:
        async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE_SECONDS):
            worker = await site.worker(stack, site.handler("pause"))
            run = asyncio.create_task(worker.run())
            await eventually(
                lambda: len(worker._executor.shared_state.running()) == 1 and site.status()["total_done"] == 1
            )
            restartable_postgres.stop()
            await eventually(lambda: not worker._executor.shared_state.running())
            runs.append(1)
            run.cancel()
            await asyncio.wait([run])

    asyncio.run(scene())
    assert runs == [1]


def test_a_postgres_restart_costs_time_alone(restartable_postgres: RestartablePostgres, fresh_valkey: str) -> None:
    site = Site(restartable_postgres.url, fresh_valkey)
    site.fill(300, 30, "0.01")

    async def act(_worker: Worker) -> None:
        await eventually(lambda: site.status()["total_done"] > 50)
        restartable_postgres.stop()
        await asyncio.sleep(0.5)
        restartable_postgres.start()

    async def scene() -> None:
        async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE_SECONDS):
            worker = await site.worker(stack, site.handler("pause"))
            run = asyncio.create_task(worker.run())
            await act(worker)
            await eventually(lambda: site.status()["total_done"] == 300)
            worker.drain()
            await run

    asyncio.run(scene())
    status = site.status()
    assert (status["total_done"], status["total_stale"], status["pending"]) == (300, 0, 0)


class Forgetful(WorkerPool):
    """A pool over a connection that breaks just when the answer to a claim is on its way."""

    lost: tuple[str, ...] = ()

    async def claim(self, *asked: int, **how: Any) -> list[Lease]:
        leases = await super().claim(*asked, **how)
        if leases and not Forgetful.lost:
            Forgetful.lost = tuple(lease.resource for lease in leases)
            raise PoolUnreachableError("the answer was lost")
        return leases


def test_what_a_claim_leased_whose_answer_was_lost_is_worked_soon(fresh_database: str) -> None:
    site = Site(fresh_database)
    site.fill(20, 20)

    async def scene() -> None:
        async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE_SECONDS):
            worker = await site.worker(stack, site.handler("act"))
            worker._open_pool = lambda: Forgetful.open(site.url)
            await drained(site, [worker])

    asyncio.run(scene())
    assert Forgetful.lost
    status = site.status()
    assert (status["total_done"], status["total_stale"], status["total_crashed"]) == (20, 0, 0)


def test_an_idle_worker_ends_at_once_without_postgres(restartable_postgres: RestartablePostgres) -> None:
    site = Site(restartable_postgres.url)

    async def scene() -> None:
        async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE_SECONDS):
            worker = await site.worker(stack, site.handler("pause"), drain_seconds=2 * PATIENCE_SECONDS)
            run = asyncio.create_task(worker.run())
            await eventually(lambda: site.status()["workers"])
            restartable_postgres.stop()
            await eventually(worker._observer.problem)
            worker.drain()
            await run  # well before the end of its drain, at which it would fail

    asyncio.run(scene())


def test_a_valkey_restart_costs_time_alone(fresh_database: str, restartable_valkey: RestartableValkey) -> None:
    site = Site(fresh_database, restartable_valkey.url)
    site.fill(300, 30, "0.01")

    async def act(_worker: Worker) -> None:
        await eventually(lambda: site.status()["total_done"] > 50)
        restartable_valkey.stop()
        await asyncio.sleep(1)
        restartable_valkey.start()

    play(site, act)
    assert site.status()["total_done"] == 300


def test_draining_gives_back_what_would_take_too_long(fresh_database: str) -> None:
    site = Site(fresh_database)
    site.fill(1, 1, "3600")

    async def scene() -> None:
        async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE_SECONDS):
            worker = await site.worker(stack, site.handler("pause"), drain_seconds=0.3)
            run = asyncio.create_task(worker.run())
            await eventually(worker._executor.shared_state.running)
            worker.drain()
            await run

    asyncio.run(scene())
    status = site.status()
    assert (status["pending"], status["in_flight"], status["workers"], status["total_crashed"]) == (1, 0, 0, 0)
    assert site.sql("select attempts, crashes from striped.unit") == [(0, 0)]


@pytest.mark.acceptance("A42")
def test_of_units_that_ran_together_the_one_that_kills_is_found_and_held(fresh_database: str) -> None:
    site = Site(fresh_database, policy=RetryPolicy(crash_threshold=2))
    site.fill(30, 30, "0.05")
    site.sql("update striped.unit set payload = '\"die\"' where resource = 'r7'")
    site.drain(site.handler("act_slowly"), slots=4)
    status = site.status()
    assert (status["total_done"], status["held"]) == (29, 1)
    assert site.sql("select resource, crashes from striped.unit") == [("r7", 2)]


def test_a_handler_that_cannot_come_back_ends_the_worker_and_loses_nothing(
    fresh_database: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRIPEDJOB_TEST_FLAG", str(tmp_path / "gone"))
    site = Site(fresh_database)
    site.fill(3, 3)

    async def scene() -> None:
        async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE_SECONDS):
            worker = await site.worker(stack, replace(site.handler("act"), target=("tests.support.vanishing:act",)))
            await worker.run()

    with pytest.raises(HandlerError, match="gone for good"):
        asyncio.run(scene())
    status = site.status()
    assert (status["pending"], status["in_flight"], status["workers"]) == (3, 0, 0)


def test_idle_workers_are_called_when_there_is_work(fresh_database: str) -> None:
    site = Site(fresh_database)

    async def scene() -> None:
        async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE_SECONDS):
            crew = [await site.worker(stack, site.handler("pause")) for _ in range(3)]
            runs = [asyncio.create_task(worker.run()) for worker in crew]
            await eventually(lambda: site.status()["workers"] == 3)
            site.fill(30, 30, "0.1")
            await eventually(lambda: site.status()["working"] == 3)
            for worker in crew:
                worker.drain()
            await asyncio.gather(*runs)

    asyncio.run(scene())


def test_a_worker_that_was_idle_for_longer_than_a_lease_works_at_its_first_claim(fresh_database: str) -> None:
    site = Site(fresh_database)
    site.job = replace(site.job, lease_seconds=1)
    site.apply()

    async def scene() -> None:
        async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE_SECONDS):
            worker = await site.worker(stack, site.handler("pause"))
            ends: list[float] = []  # of the lease, as it stood at each claim
            with patch.object(worker._observer, "claimed", lambda _leases, _asked: ends.append(worker._lease_end)):
                run = asyncio.create_task(worker.run())
                await eventually(lambda: 0 < worker._lease_end < clock.now())
                process, ends[:] = worker._executor._process, [worker._lease_end]
                site.fill(1, 1, "0.3")
                await eventually(lambda: site.status()["total_done"])
                assert worker._executor._process is process
                worker.drain()
                await run
        assert ends[1] > ends[0]  # it had renewed before it claimed

    asyncio.run(scene())


def test_the_executor_ends_with_its_worker(fresh_database: str) -> None:
    site = Site(fresh_database)

    async def scene() -> int:
        async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE_SECONDS):
            worker = await site.worker(stack, site.handler("act"))
            process = worker._executor._process
            assert process is not None
            os.kill(process.pid, signal.SIGKILL)  # while idle: it is replaced
            await eventually(lambda: worker._executor._process is not process and worker._executor._ready)
            site.fill(10, 10)
            await drained(site, [worker])
            assert worker._executor._process is not None
            return worker._executor._process.pid

    pid = asyncio.run(scene())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_what_is_committed_while_somebody_else_calls_is_found_soon(fresh_database: str) -> None:
    """Of the transactions that commit together one calls, and its call may be over before the others are through."""
    site = Site(fresh_database)

    async def scene() -> None:
        async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE_SECONDS):
            worker = await site.worker(stack, site.handler("act"))
            run = asyncio.create_task(worker.run())
            site.fill(1, 1)
            await eventually(lambda: site.status()["total_done"] == 1)
            await asyncio.sleep(0.2)  # it has begun to listen, and sleeps
            with psycopg.connect(site.url) as caller:
                caller.execute("select pg_advisory_xact_lock(hashtext('\"striped\" calls'), %s)", [site.job_id])
                site.fill(1, 1)
                began = clock.now()
                await eventually(lambda: site.status()["total_done"] == 2)
            assert clock.now() - began < MISSED_SECONDS_MAX, "it was found when the worker asked by itself"
            worker.drain()
            await run

    asyncio.run(scene())
