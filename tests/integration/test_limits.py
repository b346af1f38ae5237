"""How many workers work at once, as the database saw it at every change; and a job cleared under its workers."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import redis
from tests.support.executions import overlaps, read_log
from tests.support.worker_env import PATIENCE_SECONDS, Site

from stripedjob.locks import LockSettings, open_lock
from stripedjob.pool.client.worker import WorkerPool
from stripedjob.pool.types import JobSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

# Slots are taken one after the other, so that each look sees those before it.
NOTE = """
create table at_work (id int generated always as identity, working bigint);
create function note() returns trigger language plpgsql as $$ begin
    insert into public.at_work (working) select count(*) from striped.worker where working; return null; end $$;
create trigger note after insert or delete or update of working on striped.worker
    for each statement execute function note();
"""


def limited(url: str, lock_url: str, limit: int) -> Site:
    site = Site(url, lock_url, JobSettings("default", "sync", schedule_limit=limit))
    site.sql(NOTE)
    return site


def play(site: Site, workers: int, function: str, act: Callable[[], Awaitable[int]]) -> None:
    """Let so many workers work while something happens, and then until as many units are done as it says."""

    async def scene() -> None:
        async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE_SECONDS):
            crew = [await site.worker(stack, site.handler(function)) for _ in range(workers)]
            async with asyncio.TaskGroup() as group:
                for worker in crew:
                    group.create_task(worker.run())
                await done(site, await act())
                for worker in crew:
                    worker.drain()

    asyncio.run(scene())


async def done(site: Site, units: int) -> None:
    while site.status()["total_done"] < units:
        await asyncio.sleep(0.02)


@pytest.mark.acceptance("A14")
def test_with_10000_units_and_a_limit_of_5_never_more_than_5_work(fresh_database: str, fresh_valkey: str) -> None:
    site = limited(fresh_database, fresh_valkey, 5)
    site.fill(10_000, 1_000)
    site.drain(site.handler("act"), workers=8)
    assert site.status()["total_done"] == 10_000
    assert site.sql("select max(working) from at_work") == [(5,)]


@pytest.mark.acceptance("A16")
def test_a_limit_lowered_from_8_to_2_loses_and_doubles_nothing(
    fresh_database: str, fresh_valkey: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRIPEDJOB_TEST_LOG", str(tmp_path / "log"))
    site = limited(fresh_database, fresh_valkey, 8)
    site.fill(1_000, 100, "0.005")
    seen: list[int] = []

    async def act() -> int:
        await done(site, 200)
        async with WorkerPool.open(site.url) as pool:
            await pool.apply_job(replace(site.job, schedule_limit=2))
        while site.status()["working"] > 2:
            await asyncio.sleep(0.02)
        seen.extend(site.sql("select max(id) from at_work")[0])
        return 1_000

    play(site, 8, "logged", act)
    assert sorted(one.unit for one in read_log(tmp_path / "log")) == list(range(1, 1_001))
    assert site.sql("select max(working) from at_work") == [(8,)]
    assert site.sql("select max(working) from at_work where id > %s", seen) == [(2,)]
    status = site.status()
    assert (status["total_done"], status["total_stale"], status["total_crashed"]) == (1_000, 0, 0)


@pytest.mark.acceptance("A19")
def test_of_two_workers_of_a_job_that_is_not_parallel_one_works(
    fresh_database: str, fresh_valkey: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRIPEDJOB_TEST_LOG", str(tmp_path / "log"))
    site = limited(fresh_database, fresh_valkey, 1)  # what `parallel: false` comes to
    site.fill(200, 50, "0.001")
    site.drain(site.handler("logged"), workers=2)
    executions = read_log(tmp_path / "log")
    assert overlaps(one._replace(resource="any") for one in executions) == 0
    assert (len(executions), site.sql("select max(working) from at_work")) == (200, [(1,)])


@pytest.mark.acceptance("A10")
@pytest.mark.parametrize("workers", [1, 3])
def test_a_job_cleared_under_its_workers(fresh_database: str, fresh_valkey: str, workers: int) -> None:
    site = Site(fresh_database, fresh_valkey)
    site.fill(400, 100, "0.02")
    lock = LockSettings(backend="Redis", url=fresh_valkey, namespace=site.job.namespace, job_type=site.job.job_type)

    async def act() -> int:
        await done(site, 20)
        site.sql("select striped.clear(%s, 1000)", [site.job_id])
        async with open_lock(lock) as locks:
            await locks.flush()
        assert site.sql("select count(*) from striped.unit") == [(0,)]
        before = site.status()["total_done"]
        site.fill(100, 100)  # resources that they still have in hand among them
        await done(site, before + 100)
        assert site.status()["workers"] == workers
        return before + 100

    play(site, workers, "pause", act)
    with redis.Redis.from_url(fresh_valkey) as client:
        assert client.keys("*") == []
