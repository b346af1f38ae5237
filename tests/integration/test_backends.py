"""Whole runs with every lock backend. What the backends do by themselves, test_locks.py decides for all of them too."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from tests.support.runs import INVERSIONS, OVERLAPS, Job, Run, await_, children

pytestmark = pytest.mark.migrated

LEASE_SECONDS = 6
RENEWED_SECONDS_AGO = 1.5  # at least: a holder is killed when it has not just renewed
LEASE_LEFT = """
select 1 from striped.worker where working and expires_at < clock_timestamp() + make_interval(secs => %s)"""


@pytest.fixture(params=["Redis", "Postgres"])
def job(request: pytest.FixtureRequest, tmp_path: Path, fresh_database: str, fresh_valkey: str) -> Job:
    one = Job(tmp_path / "job", fresh_database, fresh_database if request.param == "Postgres" else fresh_valkey)
    one.write(lock={"backend": request.param, "leaseSeconds": LEASE_SECONDS}, scheduleLimit=19)
    return one


def assert_each_effect_once_and_in_order(job: Job, units: int) -> None:
    assert job.sql("select count(*), count(distinct unit) from effect") == [(units, units)]
    assert job.sql(OVERLAPS) == [(0,)]
    assert job.sql(INVERSIONS) == [(0,)]
    assert job.sql("select count(*) from striped.unit") == [(0,)]


@pytest.mark.acceptance("A30")
@pytest.mark.acceptance("A31")
@pytest.mark.acceptance("A33")
@pytest.mark.acceptance("A39")
def test_few_resources_and_many_workers(job: Job) -> None:
    job.create(2000, 10)
    with job.running("--until-empty", "--workers", "8") as run:
        summary = run.await_end()
    assert_each_effect_once_and_in_order(job, 2000)
    assert [summary[count] for count in ("done", "retried", "crashed", "stale", "lock_refusals")] == [2000, 0, 0, 0, 0]


@pytest.mark.acceptance("A32")
@pytest.mark.acceptance("A39")
def test_one_resource_with_many_units_and_late_ones(job: Job) -> None:
    job.create(2000, 1)
    with job.running("--workers", "8") as run:
        await_("some are done", lambda: job.done() > 0)
        job.create(100, 1)
        await_("all are done", lambda: job.done() == 2100)
        run.process.send_signal(signal.SIGTERM)
        summary = run.await_end()
    assert (summary["retried"], summary["crashed"]) == (0, 0), (run.folder / "err").read_text()[-3000:]
    assert_each_effect_once_and_in_order(job, 2100)


def hold(job: Job, gate: Path) -> None:
    """Put in a unit that is worked on until the gate is there."""
    job.do("enqueue", "--from", "-", stdin=json.dumps({"resource": "r", "payload": {"until": str(gate)}}))


def holder(job: Job, run: Run) -> int:
    """Wait until somebody works on the unit; returns the process."""
    names = await_("somebody holds it", lambda: job.sql("select name from striped.worker where working"))
    variable = f"STRIPEDJOB_WORKER={names[0][0]}\0".encode()
    return next(pid for pid in run.workers() if variable in Path(f"/proc/{pid}/environ").read_bytes())


def stopped_between_renewals(job: Job, pid: int) -> bool:
    os.kill(pid, signal.SIGSTOP)
    if job.sql(LEASE_LEFT, [LEASE_SECONDS - RENEWED_SECONDS_AGO]):
        return True
    os.kill(pid, signal.SIGCONT)
    return False


@pytest.mark.acceptance("A34")
@pytest.mark.acceptance("A39")
def test_what_a_killed_holder_had_is_worked_on_within_one_lease(job: Job, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    hold(job, gate)
    with job.running("--workers", "2") as run:
        await_("both are there", lambda: job.status()["workers"] == 2)
        pid = holder(job, run)
        await_("it is between two renewals", lambda: stopped_between_renewals(job, pid))
        for one in [pid, *children(pid)]:  # a child that is left alone would finish the unit, under the lease it has
            os.kill(one, signal.SIGKILL)
        gate.touch()
        await_("the other has done it", lambda: job.done() == 1, LEASE_SECONDS)
    assert job.status()["total_crashed"] == 1


@pytest.mark.acceptance("A35")
@pytest.mark.acceptance("A39")
def test_what_a_stopped_holder_writes_late_is_refused_and_seen(job: Job, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    hold(job, gate)
    with job.running("--workers", "2") as run:
        await_("both are there", lambda: job.status()["workers"] == 2)
        pid = holder(job, run)
        stopped = [pid, *children(pid)]
        for one in stopped:
            os.kill(one, signal.SIGSTOP)
        gate.touch()
        await_("the other has done it", lambda: job.done() == 1)
        for one in reversed(stopped):  # children first: a worker that goes on ends its child at once
            os.kill(one, signal.SIGCONT)
        await_("it has been counted", lambda: job.status()["total_stale"])
        await_("it has started again", lambda: job.status()["workers"] == 2)
        assert json.loads(job.do("status", "--json"))["total_stale"] == 1
        run.process.send_signal(signal.SIGTERM)
        assert run.await_end()["stale"] == 1
    assert_each_effect_once_and_in_order(job, 1)
    assert '"event": "leases had been lost' in (job.folder / "err").read_text()
