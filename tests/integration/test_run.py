"""`stripedjob run` with real worker processes: whatever dies in the middle, every unit's effect is recorded once."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import redis
from tests.support.runs import INVERSIONS, OVERLAPS, Job, Run, await_, children

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.engines import RestartablePostgres, RestartableValkey

UNITS, RESOURCES, WORKERS = 10_000, 1_000, 8  # the seed workload; with a fault in the middle, less is as good
FAULT_UNITS, FAULT_RESOURCES = 4_000, 400
HANDLER = {"python": "job_handlers:act"}


@pytest.fixture
def job(tmp_path: Path, fresh_database: str, fresh_valkey: str) -> Job:
    return Job(tmp_path / "job", fresh_database, fresh_valkey)


def recorded(job: Job) -> int:
    return int(job.sql("select count(*) from effect")[0][0])


def assert_each_effect_once(job: Job, units: int = UNITS) -> None:
    assert job.sql("select count(*), count(distinct unit) from effect") == [(units, units)]
    assert job.sql(OVERLAPS) == [(0,)]
    status = job.status()
    assert (status["pending"], status["delayed"], status["held"], status["dead"]) == (0, 0, 0, 0)
    assert status["total_done"] == units


def in_the_middle(job: Job, act: Callable[[Run], None]) -> dict[str, Any]:
    """Have 8 workers work, and let something happen when a third of it is done."""
    job.create(FAULT_UNITS, FAULT_RESOURCES)
    with job.running("--until-empty", "--workers", str(WORKERS)) as run:
        await_("a third is done", lambda: recorded(job) > FAULT_UNITS // 3)
        act(run)
        summary = run.await_end()
    assert_each_effect_once(job, FAULT_UNITS)
    return summary


@pytest.mark.acceptance("A31")
@pytest.mark.acceptance("A34")
def test_kill_9_of_workers(job: Job) -> None:
    def act(run: Run) -> None:
        for worker in run.workers()[:3]:
            os.kill(worker, signal.SIGKILL)

    in_the_middle(job, act)


@pytest.mark.acceptance("A35")
def test_workers_stopped_past_their_lease(job: Job) -> None:
    def act(run: Run) -> None:
        stopped = [pid for worker in run.workers()[:3] for pid in (worker, *children(worker))]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(4.5)  # the lease of 3 s ends meanwhile
        for pid in reversed(stopped):  # children first: a worker that goes on ends its child at once
            os.kill(pid, signal.SIGCONT)

    in_the_middle(job, act)


@pytest.mark.acceptance("A38")
def test_redis_flushed_and_restarted(
    tmp_path: Path, fresh_database: str, restartable_valkey: RestartableValkey
) -> None:
    job = Job(tmp_path / "job", fresh_database, restartable_valkey.url)

    def act(_run: Run) -> None:
        with redis.Redis.from_url(restartable_valkey.url) as client:
            client.flushall()
        restartable_valkey.kill()
        time.sleep(1)
        restartable_valkey.start()

    in_the_middle(job, act)


def test_postgres_restarted(tmp_path: Path, restartable_postgres: RestartablePostgres, fresh_valkey: str) -> None:
    job = Job(tmp_path / "job", restartable_postgres.url, fresh_valkey)

    def act(_run: Run) -> None:
        restartable_postgres.kill()
        time.sleep(1)
        restartable_postgres.start()

    in_the_middle(job, act)


@pytest.mark.acceptance("A30")
@pytest.mark.acceptance("A31")
@pytest.mark.acceptance("A33")
@pytest.mark.acceptance("A50")
def test_19_workers(job: Job) -> None:
    job.write(scheduleLimit=19)
    job.create(UNITS, RESOURCES)
    with job.running("--until-empty", "--workers", "19") as run:
        summary = run.await_end()
    assert_each_effect_once(job)
    assert job.sql(INVERSIONS) == [(0,)]
    assert summary["stale"] == 0
    assert summary["lock_tries"] <= 1.5 * summary["claimed"] + UNITS / 100


@pytest.mark.acceptance("A17")
@pytest.mark.acceptance("A14")
def test_out_to_the_limit_and_in_to_the_minimum(job: Job) -> None:
    job.write(handler={"python": "job_handlers:act"}, scaling={"scaleDownDelaySeconds": 1}, scheduleLimit=3)
    job.do("migrate")
    with job.running() as run:
        await_("no worker while there is nothing to do", lambda: run.process.poll() is None and not run.workers())
        lines = "\n".join(json.dumps({"resource": f"r{n}", "payload": 0.05}) for n in range(100))
        job.do("enqueue", "--from", "-", stdin=lines)
        await_("as many as the limit", lambda: job.status()["working"] == 3)
        await_("done", lambda: job.done() == 100)
        await_("none again", lambda: not run.workers())
        run.process.send_signal(signal.SIGTERM)
        run.await_end()


@pytest.mark.acceptance("A20")
def test_suspended_and_resumed(job: Job) -> None:
    job.write(suspend=True)
    job.create(100, 10)
    with job.running() as run:
        await_("it says why", lambda: "the job is suspended" in (run.folder / "out").read_text())
        assert not run.workers()
    assert job.done() == 0
    job.write(suspend=False)
    with job.running("--until-empty") as run:
        run.await_end()
    assert_each_effect_once(job, 100)


@pytest.mark.acceptance("A47")
@pytest.mark.acceptance("A16")
def test_ctrl_c_drains(job: Job) -> None:
    job.write(handler={"python": "job_handlers:act"})
    job.do(
        "enqueue",
        "--from",
        "-",
        stdin="\n".join(json.dumps({"resource": f"r{n}", "payload": 0.02}) for n in range(1000)),
    )
    with job.running("--workers", "3") as run:
        await_("some are done", lambda: job.done() > 50)
        run.process.send_signal(signal.SIGINT)
        summary = run.await_end(130)
    status = job.status()
    assert summary["done"] + summary["pending"] == 1000
    assert (status["in_flight"], status["workers"], status["total_crashed"], status["total_stale"]) == (0, 0, 0, 0)
    assert job.sql("select count(*) from striped.unit where attempts > 0 or crashes > 0") == [(0,)]


def test_workers_end_when_their_supervisor_is_killed(job: Job) -> None:
    job.do("migrate")
    with job.running("--workers", "2") as run:
        workers = await_("two are there", lambda: job.status()["workers"] == 2 and run.workers())
        run.process.kill()
        await_("they have gone", lambda: job.status()["workers"] == 0)
        await_("the processes have gone", lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))


@pytest.mark.acceptance("A22")
def test_an_idle_job_costs_little(job: Job) -> None:
    job.do("migrate")
    with job.running("--workers", "8") as run:
        await_("all are there", lambda: job.status()["workers"] == 8)
        # Autovacuum adds its own; what a session did when it started is in the statistics up to 10 s later.
        await_("it is quiet", lambda: 0 < transactions_a_second(job, 11) < 10, 60)
        assert run.process.poll() is None


def transactions_a_second(job: Job, seconds: float) -> float:
    before, began = transactions(job), time.monotonic()
    time.sleep(seconds)
    return (transactions(job) - before) / (time.monotonic() - began)


def transactions(job: Job) -> int:
    with psycopg.connect(job.url, autocommit=True) as conn:
        conn.execute("select pg_stat_clear_snapshot()")
        row = conn.execute("select xact_commit from pg_stat_database where datname = current_database()").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.acceptance("A41")
@pytest.mark.acceptance("A42")
@pytest.mark.acceptance("A49")
@pytest.mark.parametrize(
    ("payload", "spec", "left"),
    [
        ("raise", {"retry": {"maxAttempts": 2, "backoffSeconds": 0}}, {"dead": 1}),
        (
            "hang",
            {"handler": {"python": "job_handlers:act", "timeoutSeconds": 1}, "retry": {"maxAttempts": 1}},
            {"dead": 1},
        ),
        ("exit", {"retry": {"crashThreshold": 2}}, {"held": 1}),
    ],
)
def test_a_handler_that_misbehaves_loses_nothing(
    job: Job, payload: str, spec: dict[str, Any], left: dict[str, int]
) -> None:
    job.write(**({"handler": {"python": "job_handlers:act"}} | spec))
    lines = [{"resource": f"r{n}", "payload": payload if n == 7 else None} for n in range(20)]
    job.do("enqueue", "--from", "-", stdin="\n".join(map(json.dumps, lines)))
    with job.running("--until-empty", "--workers", "2") as run:
        summary = run.await_end()
    status = job.status()
    assert summary["done"] == 19
    assert {name: status[name] for name in left} == left
    assert job.sql("select greatest(attempts, crashes) from striped.unit") == [(max(tries(spec)),)]
    told = [json.loads(line) for line in (job.folder / "err").read_text().splitlines() if '"reason"' in line]
    assert {(one["job"], one["resource"], one["unit"]) for one in told} == {("default/seed", "r7", 8)}


def tries(spec: dict[str, Any]) -> list[int]:
    return [spec["retry"][name] for name in ("maxAttempts", "crashThreshold") if name in spec["retry"]]


def test_a_handler_that_cannot_be_imported_ends_the_run_and_says_why(job: Job) -> None:
    job.write(handler={"python": "no_such_module:act"})
    job.create(10, 10)
    with job.running("--until-empty") as run:
        assert run.process.wait(60) == os.EX_CONFIG
    assert "there is no module no_such_module" in (job.folder / "err").read_text()
    assert job.status()["pending"] == 10
