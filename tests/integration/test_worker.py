"""Whole workers on a real Postgres and a real Valkey."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import psycopg
import pytest

from stripedjob.locks import LockSettings, open_lock
from stripedjob.pool.migrate import migrate
from stripedjob.pool.types import JobSettings
from stripedjob.pool.worker import WorkerPool
from stripedjob.runtime.decide import RetryPolicy
from stripedjob.runtime.executor import Config
from stripedjob.runtime.host import Host
from stripedjob.runtime.loop import Worker, WorkerSettings

PATIENCE_SECONDS = 60
CONFIG = Config(
    "tests.support.handlers:act", per_resource=False, slots=1, block=False, path=str(Path(__file__).parents[2])
)


async def drained(watch: WorkerPool, workers: list[Worker], job_id: int) -> None:
    runs = [asyncio.create_task(worker.run()) for worker in workers]
    while not all(run.done() for run in runs):
        await watch.upkeep(job_id)
        if await watch.is_empty(job_id):
            for worker in workers:
                worker.drain()
        await asyncio.wait(runs, timeout=0.05)
    for run in runs:
        await run


@pytest.mark.parametrize("workers", [1, 4])
def test_workers_drain_a_pool(fresh_database: str, fresh_valkey: str, workers: int) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE_SECONDS):
            pools = [await stack.enter_async_context(WorkerPool.open(fresh_database)) for _ in range(workers + 1)]
            job_id = await pools[0].apply_job(JobSettings("default", "sync", schedule_limit=workers))
            conn.execute(
                "insert into striped.unit (job_id, resource, payload)"
                " select %s, 'r' || n %% 200, '0' from generate_series(1, 4000) n",
                [job_id],
            )
            lock = LockSettings(backend="Redis", url=fresh_valkey, namespace="default", job_type="sync")
            settings = WorkerSettings(job_id, "w", 30.0, 64, 100, 1, RetryPolicy())
            crew = [
                Worker(
                    settings,
                    pool,
                    await stack.enter_async_context(open_lock(lock)),
                    await stack.enter_async_context(Host(CONFIG, 60)),
                )
                for pool in pools[1:]
            ]
            await drained(pools[0], crew, job_id)

    with psycopg.connect(fresh_database, autocommit=True) as conn:
        migrate(conn)
        asyncio.run(scene())
        assert conn.execute("select done, stale, held, dead, lock_refusals from striped.job").fetchone() == (
            4000,
            0,
            0,
            0,
            0,
        )
        assert conn.execute("select count(*) from striped.stripe").fetchone() == (0,)
