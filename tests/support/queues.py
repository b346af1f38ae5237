"""A pool in the hands of a test, call by call: put units in, take leases, end them. No worker runs by itself."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg

from stripedjob.pool.client.worker import WorkerPool
from stripedjob.pool.install.migrate import migrate
from stripedjob.pool.types import Batch, Failure, Fate, JobSettings, Lease, Settlement, Tally, Then

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FIFO = JobSettings("default", "sync", schedule_limit=20, on_failure="Block")
ENQUEUE = """select striped.enqueue('sync', %(resource)s, %(payload)s, importance => %(importance)s,
    due_at => clock_timestamp() + make_interval(secs => %(due_in)s), dedup_id => %(dedup_id)s)"""


@dataclass
class Queue:
    """One job `sync`, its pool as a worker calls it, and a connection to look and to tamper with."""

    url: str
    db: psycopg.Connection
    pool: WorkerPool
    runner: asyncio.Runner
    job_id: int
    _batches: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def put(self, resource: str, *, conn: psycopg.Connection | None = None, **options: Any) -> int:
        given = {"payload": "{}", "importance": None, "due_in": None, "dedup_id": None} | options
        row = (conn or self.db).execute(ENQUEUE, given | {"resource": resource}).fetchone()
        assert row is not None
        return int(row[0])

    def worker(self, name: str = "w") -> int:
        return self.runner.run(self.pool.register(self.job_id, name))

    def take(self, worker: int, resources: int = 64, units: int = 100) -> list[Lease]:
        self.runner.run(self.pool.upkeep(self.job_id))
        return self.runner.run(self.pool.claim(worker, resources, units))

    def take_all(self, worker: int, units: int = 100) -> dict[str, Lease]:
        """Take until nothing is left: one claim takes a fair share of what is ready."""
        leases: dict[str, Lease] = {}
        while self._has_ready():
            leases |= {lease.resource: lease for lease in self.take(worker, units=units)}
        return leases

    def end(self, worker: int, lease: Lease, **how: Any) -> list[str]:
        """Settle one lease: as done, unless told otherwise."""
        given = {"then": Then.READY if lease.more else Then.IDLE, "done": lease.ids} | how
        batch = Batch(worker, next(self._batches), (Settlement(lease, **given),), Tally())
        return list(self.runner.run(self.pool.settle(self.job_id, batch)).refused)

    def fail(self, worker: int, lease: Lease, to: Fate, *, after_seconds: float = 3600) -> None:
        """End a lease with its first unit failed and the others not started, as a worker does where order is strict."""
        failed = Failure(lease.ids[0], to, 1, 0, "not now", after_seconds)
        wait = {Fate.READY: after_seconds, Fate.HELD: float("inf")}.get(to)
        then = Then.WAIT if wait is not None else Then.READY
        self.end(worker, lease, then=then, done=(), failed=(failed,), wait_seconds=wait)

    def work_off(self, worker: int) -> list[int]:
        """Work on everything there is, and give the ids in the order of the work."""
        ids: list[int] = []
        while self._has_ready():
            for lease in self.take(worker):
                ids += lease.ids
                self.end(worker, lease)
        return ids

    def _has_ready(self) -> bool:
        """Return whether a claim may find something, or learn that it has to wait."""
        self.runner.run(self.pool.upkeep(self.job_id))
        return bool(self.one("select exists (select from striped.stripe where state = 'ready')"))

    def let_time_pass(self) -> None:
        """Whatever waits for a time finds that it has come."""
        self.db.execute("update striped.unit set due_at = clock_timestamp() where state = 'delayed'")
        self.db.execute(
            "update striped.stripe set next_at = clock_timestamp() where state = 'waiting' and next_at < 'infinity'"
        )

    def expire(self, worker: int) -> None:
        """Let a worker's lease run out."""
        self.db.execute("update striped.worker set expires_at = now() - interval '1 s' where id = %s", [worker])

    def explain(self, resource: str) -> dict[str, Any]:
        return dict(self.one("select striped.explain(%s, %s)", [self.job_id, resource]))

    def one(self, query: str, values: Sequence[Any] = ()) -> Any:
        row = self.db.execute(query.encode(), values).fetchone()
        assert row is not None
        return row[0]

    def apply(self, job: JobSettings) -> None:
        assert self.runner.run(self.pool.apply_job(job)) == self.job_id


@contextmanager
def queue(url: str, job: JobSettings = FIFO) -> Iterator[Queue]:
    """Make the job, the only one, in a database that other tests may have used."""
    with psycopg.connect(url, autocommit=True) as db, asyncio.Runner() as runner:
        if not migrate(db):
            tables = ("unit", "stripe", "wake", "dedup", "history", "job")
            db.execute(f"truncate {', '.join(f'striped.{name}' for name in tables)} cascade".encode())
        context = WorkerPool.open(url)
        pool = runner.run(context.__aenter__())
        try:
            yield Queue(url, db, pool, runner, runner.run(pool.apply_job(job)))
        finally:
            runner.run(context.__aexit__(None, None, None))


@contextmanager
def listening(url: str, job_id: int) -> Iterator[psycopg.Connection]:
    """Have a connection that hears who is called for a job: its workers, its delegator, and the operator."""
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(f'listen "striped_striped_{job_id}"'.encode())
        conn.execute(f'listen "striped_striped_{job_id}_delegator"'.encode())
        conn.execute("listen striped_striped_operator")
        yield conn


def heard(ear: psycopg.Connection) -> list[str]:
    """Return the calls that have come: whatever was committed before is delivered with the answer to a query."""
    ear.execute("select 1")
    return [call.payload for call in ear.notifies(timeout=0)]
