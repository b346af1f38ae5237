"""`stripedjob run` with the strategies Delegator and Throttled: real workers, and a real delegator that dies."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.integration.test_run import transactions_a_second
from tests.support.runs import OVERLAPS, Job, Run, await_, children

pytestmark = pytest.mark.migrated

THROTTLE = {"maxOutstanding": 50, "rate": 1_000_000, "periodSeconds": 1}
SPECS: list[dict[str, Any]] = [{"strategy": "Delegator"}, {"strategy": "Throttled", "throttle": THROTTLE}]


@pytest.fixture(params=SPECS, ids=lambda spec: spec["strategy"])
def job(request: pytest.FixtureRequest, tmp_path: Path, fresh_database: str, fresh_valkey: str) -> Job:
    made = Job(tmp_path / "job", fresh_database, fresh_valkey)
    made.write(scheduleLimit=19, **request.param)
    return made


def delegators(run: Run) -> list[int]:
    return [pid for pid in run.workers() if b"delegator" in words(pid)]


def words(pid: int) -> list[bytes]:
    """Return the words of a process's command; none where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


def assert_each_effect_once(job: Job, units: int) -> None:
    assert job.sql("select count(*), count(distinct unit) from effect") == [(units, units)]
    assert job.sql(OVERLAPS) == [(0,)]


@pytest.mark.acceptance("A21")
@pytest.mark.acceptance("A31")
@pytest.mark.parametrize(
    ("job", "workers"), [(SPECS[0], 19), (SPECS[1], 8)], indirect=["job"], ids=["Delegator-19", "Throttled-8"]
)
def test_the_seed_workload(job: Job, workers: int) -> None:
    job.create(10_000, 1_000)
    with job.running("--until-empty", "--workers", str(workers)) as run:
        summary = run.await_end()
    assert_each_effect_once(job, 10_000)
    assert (summary["stale"], summary["crashed"], summary["lock_refusals"]) == (0, 0, 0)
    assert summary["lock_tries"] <= 1.5 * summary["claimed"] + 100


@pytest.mark.acceptance("A08")
@pytest.mark.acceptance("A24")
def test_a_delegator_is_killed_and_a_worker_too(job: Job) -> None:
    job.create(5_000, 500)
    with job.running("--until-empty", "--workers", "4") as run:
        await_("a part is done", lambda: job.sql("select count(*) from effect")[0][0] > 500)
        (first,) = delegators(run)
        os.kill(first, signal.SIGKILL)
        victim = next(pid for pid in run.workers() if pid != first and children(pid))
        os.kill(victim, signal.SIGKILL)
        await_("another leads", lambda: delegators(run) not in ([], [first]))
        run.await_end()
    assert_each_effect_once(job, 5_000)


@pytest.mark.acceptance("A25")
def test_one_slot(job: Job) -> None:
    job.write(scheduleLimit=1)
    job.create(500, 50)
    with job.running("--until-empty") as run:
        assert run.await_end()["workers"] == 1
    assert_each_effect_once(job, 500)


@pytest.mark.acceptance("A23")
def test_a_unit_that_fails_is_tried_again_and_blocks_nothing(job: Job) -> None:
    job.write(handler={"python": "job_handlers:act"}, retry={"maxAttempts": 2, "backoffSeconds": 0})
    lines = [{"resource": f"r{n % 10}", "payload": "raise" if n == 3 else None} for n in range(100)]
    job.do("enqueue", "--from", "-", stdin="\n".join(map(json.dumps, lines)))
    with job.running("--until-empty") as run:
        summary = run.await_end()
    assert (summary["done"], summary["retried"], summary["dead_now"]) == (99, 1, 1)


@pytest.mark.acceptance("A22")
def test_an_idle_job_costs_little(job: Job) -> None:
    job.do("migrate")
    with job.running("--workers", "8") as run:
        await_("all are there", lambda: job.status()["workers"] == 8 and delegators(run))
        # What a session did when it started is in Postgres' statistics up to 10 s later.
        await_("it is quiet", lambda: 0 < transactions_a_second(job, 11) < 10, 60)


def test_slow_work_is_not_hoarded(job: Job) -> None:
    job.write(scheduleLimit=4, handler={"python": "job_handlers:act"})
    job.do("migrate")
    busy = """
        select count(distinct worker_id), max(n)
        from (select worker_id, count(*) n from striped.stripe where state = 'leased' group by 1) x"""
    lines = [{"resource": f"r{n}", "payload": 0.5} for n in range(20)]
    with job.running("--workers", "4") as run:
        await_("all are there", lambda: job.status()["workers"] == 4 and delegators(run))
        job.do("enqueue", "--from", "-", stdin="\n".join(map(json.dumps, lines)))
        await_("all four work on one each", lambda: job.sql(busy) == [(4, 1)])
        await_("all is done", lambda: job.done() == 20)
