"""One job `sync` in a pool of its own, as the runtime uses it, call by call."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from stripedjob.pool.client.owner import OwnerPool
from stripedjob.pool.client.worker import WorkerPool
from stripedjob.pool.install.migrate import migrate
from stripedjob.pool.types import Batch, JobSettings, Lease, Recorded, Settlement, Tally, Then

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator


JOB = JobSettings(namespace="default", job_type="sync", schedule_limit=4)


@pytest.fixture
def db(fresh_database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(fresh_database, autocommit=True) as conn:
        migrate(conn)
        yield conn


@pytest.fixture
def people(fresh_database: str, db: psycopg.Connection) -> Iterator[OwnerPool]:
    assert db
    with OwnerPool.open(fresh_database) as pool:
        yield pool


def play(url: str, scene: Callable[[WorkerPool, int], Awaitable[None]], job: JobSettings = JOB) -> None:
    async def run() -> None:
        async with WorkerPool.open(url) as pool:
            await scene(pool, await pool.apply_job(job))

    asyncio.run(run())


def enqueue(db: psycopg.Connection, resource: str, *, units: int = 1, **options: Any) -> list[int]:
    given = {"resource": resource, "units": units, "importance": None, "dedup_id": None} | options
    query = """select striped.enqueue(
            'sync', %(resource)s, '{}', importance => %(importance)s, dedup_id => %(dedup_id)s)
        from generate_series(1, %(units)s)"""
    return [row[0] for row in db.execute(query, given)]


def count(db: psycopg.Connection, query: str) -> int:
    row = db.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])


async def claimed(pool: WorkerPool, job_id: int, worker_id: int, resources: int = 64, units: int = 100) -> list[Lease]:
    await pool.upkeep(job_id)
    return await pool.claim(worker_id, resources, units)


async def claimed_all(pool: WorkerPool, job_id: int, worker_id: int, units: int = 100) -> list[Lease]:
    """Lease all that is ready, more than a fair share."""
    await pool.upkeep(job_id)
    return await pool.claim(worker_id, 64, units, unshared=64)


batches = itertools.count(1)


async def settle(pool: WorkerPool, job_id: int, worker_id: int, ended: list[Settlement]) -> list[str]:
    return list((await recorded(pool, job_id, worker_id, ended)).refused)


async def recorded(pool: WorkerPool, job_id: int, worker_id: int, ended: list[Settlement]) -> Recorded:
    return await pool.settle(job_id, Batch(worker_id, next(batches), tuple(ended), Tally()))


def all_done(lease: Lease) -> Settlement:
    return Settlement(lease, Then.READY if lease.more else Then.IDLE, lease.ids)
