"""A pool with one job and a table for effects, and whole workers on it: what tests of the runtime start from."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from stripedjob.locks import LockSettings, open_lock
from stripedjob.pool.client.worker import WorkerPool
from stripedjob.pool.install.migrate import migrate
from stripedjob.pool.types import Database, JobSettings
from stripedjob.runtime.executor.supervisor import ExecutorSupervisor
from stripedjob.runtime.executor.wire import Config
from stripedjob.runtime.handlers.settings import HandlerSettings
from stripedjob.runtime.observe import Observer
from stripedjob.runtime.worker.decide import RetryPolicy
from stripedjob.runtime.worker.loop import Worker
from stripedjob.runtime.worker.settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = int(os.environ.get("STRIPEDJOB_TEST_PATIENCE", "180"))


@dataclass
class Site:
    """One job `sync` in a fresh database; `lock_url` of a Valkey, or None for locks in Postgres.

    Workers and handlers come by `pool_url`, where it is another one.
    """

    url: str
    lock_url: str | None = None
    job: JobSettings = field(default_factory=lambda: JobSettings("default", "sync", schedule_limit=8))
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    job_id: int = 0
    pool_url: str = ""

    def __post_init__(self) -> None:
        self.pool_url = self.pool_url or self.url
        with psycopg.connect(self.url, autocommit=True) as conn:
            migrate(conn)
            conn.execute(
                "create table if not exists effect (unit bigint, resource text, fence bigint, began timestamptz,"
                " ended timestamptz)"
            )
        self.apply()

    def apply(self) -> None:
        async def run() -> None:
            async with WorkerPool.open(self.pool_url) as pool:
                self.job_id = await pool.apply_job(self.job)

        asyncio.run(run())

    def sql(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        with psycopg.connect(self.url, autocommit=True) as conn:
            cursor = conn.execute(query.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def fill(self, units: int, resources: int, payload: str = "0") -> None:
        self.sql(
            "insert into striped.unit (job_id, resource, payload)"
            " select %s, 'r' || n %% %s, %s from generate_series(1, %s) n",
            [self.job_id, resources, payload, units],
        )

    def enqueue(self, resources: Sequence[str]) -> None:
        """Put in one unit for each of these, in this order; in a fresh database the ids count from 1."""
        self.sql(
            "insert into striped.unit (job_id, resource)"
            " select %s, resource from unnest(%s::text[]) with ordinality u(resource, n) order by n",
            [self.job_id, list(resources)],
        )

    def status(self) -> dict[str, int]:
        with psycopg.connect(self.url, row_factory=psycopg.rows.dict_row) as conn:
            return conn.execute("select * from striped.job_status").fetchone() or {}

    def handler(self, function: str, **options: Any) -> HandlerSettings:
        return HandlerSettings("python", (f"tests.support.handlers:{function}",), **options)

    @property
    def database(self) -> Database:
        return Database(self.pool_url, "striped", self.job_id)

    async def worker(self, stack: AsyncExitStack, handler: HandlerSettings, slots: int = 1, **changes: Any) -> Worker:
        settings = replace(
            WorkerSettings(self.job_id, "w", self.job.lease_seconds, 64, 100, slots, self.policy), **changes
        )
        redis = self.lock_url is not None
        lock = LockSettings(
            backend="Redis" if redis else "Postgres",
            url=self.lock_url or self.pool_url,
            namespace=self.job.namespace,
            job_type=self.job.job_type,
        )
        config = Config(handler, slots, self.policy.on_failure == "Block", str(ROOT))
        return Worker(
            settings,
            lambda: WorkerPool.open(self.pool_url),
            await stack.enter_async_context(open_lock(lock)),
            await stack.enter_async_context(ExecutorSupervisor(config)),
            Observer("default/sync"),
        )

    def drain(self, handler: HandlerSettings, workers: int = 1, slots: int = 1, **changes: Any) -> None:
        """Work with so many workers until the pool is empty."""

        async def scene() -> None:
            async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE_SECONDS):
                crew = [await self.worker(stack, handler, slots, **changes) for _ in range(workers)]
                await drained(self, crew)

        asyncio.run(scene())


async def drained(site: Site, crew: Sequence[Worker]) -> None:
    """Run the workers until nothing is left to do."""
    runs = [asyncio.create_task(worker.run()) for worker in crew]
    async with WorkerPool.open(site.pool_url) as watch:
        while not all(run.done() for run in runs):
            await watch.upkeep(site.job_id)
            if await watch.is_empty(site.job_id):
                for worker in crew:
                    worker.drain()
            await asyncio.wait(runs, timeout=0.05)
    for run in runs:
        await run
