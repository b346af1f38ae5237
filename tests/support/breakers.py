"""The circuit breaker in the hands of a test: tries that fail, and what stands in the job's row."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from tests.support.pool_calls import JOB, claimed_all, enqueue, settle

from stripedjob.pool.types import Failure, Fate, Lease, Settlement, Then

if TYPE_CHECKING:
    import psycopg

    from stripedjob.pool.client.worker import WorkerPool

BREAKS = replace(JOB, breaker_failures=3, backoff_seconds=10, backoff_seconds_max=35)
STATE = """
select alike, alike_kind, openings, 5 * ceil(extract(epoch from open_until - clock_timestamp()) / 5) from striped.job"""
claimed = partial(claimed_all, units=1)


def failed(lease: Lease, kind: str = "ValueError", to: Fate = Fate.DELAYED, then: Then = Then.IDLE) -> Settlement:
    """Settle a lease of one unit as its worker does whose try failed."""
    wait = 300.0 if then is Then.WAIT else None
    failure = Failure(lease.ids[0], to, lease.attempts[0] + 1, 0, f"{kind}: no luck", 300.0, kind=kind)
    return Settlement(lease, then, (), (failure,), wait)


def state(db: psycopg.Connection) -> tuple[int, str | None, int, int | None]:
    """Return what stands in the job's row; the seconds are rounded up to five, for a machine that is slow."""
    row = db.execute(STATE).fetchone()
    assert row is not None
    return row


def half_open(db: psycopg.Connection) -> None:
    """Let the time that it is open for be over, and likewise of what was spared."""
    db.execute("update striped.job set open_until = clock_timestamp() where open_until is not null")
    db.execute("update striped.unit set due_at = clock_timestamp() where state = 'delayed'")
    db.execute("update striped.stripe set next_at = clock_timestamp() where state = 'waiting'")


def units(db: psycopg.Connection) -> list[tuple[str, str, int]]:
    return db.execute("select resource, state::text, attempts from striped.unit order by id").fetchall()


async def opened(db: psycopg.Connection, pool: WorkerPool, job_id: int) -> int:
    """Open it with three units, `a`, `b` and `c`; returns the worker."""
    for resource in "abc":
        enqueue(db, resource)
    worker = await pool.register(job_id, "w")
    leases = await claimed(pool, job_id, worker)
    await settle(pool, job_id, worker, [failed(one) for one in leases])
    return worker
