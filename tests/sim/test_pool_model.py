"""The pool against a small model: whatever enqueuers, workers, deaths and late writers do, in whatever order."""

from __future__ import annotations

import asyncio

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from tests.support.engines import new_database

from stripedjob.pool.client.worker import WorkerPool
from stripedjob.pool.install.migrate import migrate
from stripedjob.pool.types import Batch, Failure, Fate, JobSettings, Lease, Settlement, Tally, Then

RESOURCES = ["a", "b", "c"]
JOB = JobSettings("default", "sync", schedule_limit=3, crash_threshold=1000)


class Pool(RuleBasedStateMachine):
    """The model: which units wait per resource, in order, and which leases are valid or lost."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.conn = psycopg.connect(self.url, autocommit=True)
        self.conn.execute("truncate striped.unit, striped.stripe, striped.wake, striped.worker, striped.job cascade")
        self.context = WorkerPool.open(self.url)
        self.pool = self.runner.run(self.context.__aenter__())
        self.job_id = self.runner.run(self.pool.apply_job(JOB))
        self.waiting: dict[str, list[int]] = {name: [] for name in RESOURCES}
        self.valid: list[tuple[int, Lease]] = []
        self.lost: list[tuple[int, Lease]] = []
        self.workers: list[int] = []
        self.fences: dict[str, int] = {}
        self.batches = self.done = self.stale = self.enqueued = 0

    def teardown(self) -> None:
        self.runner.run(self.context.__aexit__(None, None, None))
        self.runner.close()
        self.conn.close()

    @rule(name=st.sampled_from(RESOURCES), units=st.integers(1, 3))
    def enqueue(self, name: str, units: int) -> None:
        for _ in range(units):
            row = self.conn.execute("select striped.enqueue('sync', %s)", [name]).fetchone()
            assert row is not None
            self.waiting[name].append(row[0])
            self.enqueued += 1

    @precondition(lambda self: len(self.workers) < 4)
    @rule()
    def come(self) -> None:
        self.workers.append(self.runner.run(self.pool.register(self.job_id, "w")))

    @precondition(lambda self: self.workers)
    @rule(which=st.integers(0, 3), resources=st.integers(1, 3), units=st.integers(1, 3))
    def claim(self, which: int, resources: int, units: int) -> None:
        worker = self.workers[which % len(self.workers)]
        self.runner.run(self.pool.upkeep(self.job_id))
        for lease in self.runner.run(self.pool.claim(worker, resources, units)):
            assert lease.resource not in {one.resource for _, one in self.valid}, "two valid leases of a resource"
            assert lease.fence > self.fences.get(lease.resource, 0), "a fence that does not grow"
            self.fences[lease.resource] = lease.fence
            assert list(lease.ids) == self.waiting[lease.resource][: len(lease.ids)], "not in order"
            assert lease.more == (len(self.waiting[lease.resource]) > len(lease.ids))
            self.valid.append((worker, lease))
        assert len({worker for worker, _ in self.valid}) <= JOB.schedule_limit

    @precondition(lambda self: self.valid)
    @rule(which=st.integers(0, 9), done=st.integers(0, 3), fails=st.booleans())
    def settle(self, which: int, done: int, fails: bool) -> None:  # noqa: FBT001 - drawn by Hypothesis
        worker, lease = self.valid.pop(which % len(self.valid))
        worked, rest = lease.ids[:done], lease.ids[done:]
        failed = tuple(Failure(unit, Fate.READY, 1, 0, "again") for unit in rest[:1] if fails)
        then = Then.READY if rest or lease.more else Then.IDLE
        assert self._settle(worker, Settlement(lease, then, worked, failed)) == []
        del self.waiting[lease.resource][: len(worked)]
        self.done += len(worked)

    @precondition(lambda self: self.lost)
    @rule(which=st.integers(0, 9))
    def write_late(self, which: int) -> None:
        worker, lease = self.lost.pop(which % len(self.lost))
        assert self._settle(worker, Settlement(lease, Then.IDLE, lease.ids)) == [lease.resource]
        self.stale += 1

    @precondition(lambda self: self.workers)
    @rule(which=st.integers(0, 3))
    def die(self, which: int) -> None:
        worker = self.workers.pop(which % len(self.workers))
        self.conn.execute("update striped.worker set expires_at = now() - interval '1 s' where id = %s", [worker])
        self.runner.run(self.pool.upkeep(self.job_id))
        self._lose(worker)

    @precondition(lambda self: self.workers)
    @rule(which=st.integers(0, 3))
    def leave(self, which: int) -> None:
        worker = self.workers.pop(which % len(self.workers))
        self.runner.run(self.pool.leave(worker))
        self._lose(worker)

    @invariant()
    def nothing_is_lost_and_nothing_done_twice(self) -> None:
        row = self.conn.execute(
            "select (select count(*) from striped.unit), total_done, total_stale, total_held from striped.job_status"
        ).fetchone()
        assert row is not None
        held = int(row[3])
        assert (row[0], row[1], row[2]) == (self.enqueued - self.done, self.done, self.stale)
        assert held == 0

    def _settle(self, worker: int, settlement: Settlement) -> list[str]:
        self.batches += 1
        batch = Batch(worker, self.batches, (settlement,), Tally())
        return list(self.runner.run(self.pool.settle(self.job_id, batch)).refused)

    def _lose(self, worker: int) -> None:
        self.lost += [(owner, lease) for owner, lease in self.valid if owner == worker]
        self.valid = [(owner, lease) for owner, lease in self.valid if owner != worker]


@pytest.mark.acceptance("A40")
def test_the_pool_is_as_its_model(postgres_url: str) -> None:
    with new_database(postgres_url) as url:
        with psycopg.connect(url, autocommit=True) as conn:
            migrate(conn)
        Pool.url = url
        few = settings(max_examples=25, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))
        run_state_machine_as_test(Pool, settings=few)
