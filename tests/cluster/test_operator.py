"""The operator on a real API server, with real engines: what becomes of a StripedJob. No worker runs here."""

from __future__ import annotations

import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.cluster_kit.fixtures import await_
from tests.support.operators import Jobs, Operator

import stripedjob
from stripedjob import NewUnit

DEAD_URL = "postgresql://postgres@127.0.0.1:1/none"


def enqueue(url: str, namespace: str, resources: int = 10, job: str = "job") -> None:
    with psycopg.connect(url) as conn:
        for number in range(resources):
            stripedjob.enqueue(conn, job, NewUnit(resource=f"r{number}"), namespace=namespace)


def ask(url: str, query: str, *values: object) -> object:
    with psycopg.connect(url, autocommit=True) as conn:
        row = conn.execute(query, values).fetchone()
    return row[0] if row else None


def has_replicas(jobs: Jobs, workers: int) -> bool:
    return jobs.replicas() == workers


def is_gone(jobs: Jobs, name: str) -> bool:
    return jobs.deployment(name) is None


@pytest.mark.acceptance("A07")
@pytest.mark.acceptance("A17")
@pytest.mark.usefixtures("operator")
def test_a_job_scales_with_its_backlog(jobs: Jobs, namespace: str, fresh_database: str) -> None:
    jobs.apply(scaling={"scaleDownDelaySeconds": 1})
    await_("the Deployment", jobs.deployment)
    assert jobs.until("Ready", "Idle")["status"] == "True"
    assert jobs.replicas() == 0
    enqueue(fresh_database, namespace)
    await_("as many workers as may work", lambda: jobs.replicas() == 3)
    assert jobs.until("Limited", "Limit")["status"] == "True"
    shown = jobs.kubectl("get", "sj", "job").splitlines()[1].split()
    assert shown[:4] == ["job", "job", "Mutex", "Redis"]
    assert jobs.status()["pool"]["pending"] == 10
    ask(fresh_database, "select striped.clear(striped.job_id(%s, 'job'), 1000)", namespace)
    await_("no worker", lambda: jobs.replicas() == 0)
    jobs.told("Scaled", times=2)
    assert [reason for reason, _ in jobs.events()].count("Scaled") == 2


@pytest.mark.acceptance("A15")
@pytest.mark.usefixtures("operator")
def test_a_change_by_hand_is_undone(jobs: Jobs) -> None:
    jobs.apply(minWorkers=2)
    await_("two workers", lambda: jobs.replicas() == 2)
    name = "deployment/job-worker"
    jobs.kubectl("scale", name, "--replicas=7")
    await_("two workers again", lambda: jobs.replicas() == 2)
    jobs.kubectl("set", "image", name, "worker=other")
    await_(
        "the image again",
        lambda: (found := jobs.deployment()) and "other" not in str(found["spec"]["template"]),
        10,
    )
    jobs.kubectl("delete", name)
    await_("the Deployment again", lambda: jobs.replicas() == 2)
    jobs.apply(minWorkers=2, networkPolicy=True)
    await_("a NetworkPolicy", lambda: jobs.kubectl("get", "netpol", "-o", "name"))
    jobs.apply(minWorkers=2)
    await_("no NetworkPolicy", lambda: not jobs.kubectl("get", "netpol", "-o", "name"))


@pytest.mark.acceptance("A16")
@pytest.mark.acceptance("A18")
@pytest.mark.acceptance("A19")
@pytest.mark.acceptance("A20")
@pytest.mark.usefixtures("operator")
def test_limits_of_every_kind(jobs: Jobs, namespace: str, fresh_database: str) -> None:
    jobs.apply()
    jobs.until("Ready", "Idle")
    enqueue(fresh_database, namespace)
    fast = {"scaleDownDelaySeconds": 0}
    cases: list[tuple[dict[str, Any], int, str]] = [
        ({"scheduleLimit": 8}, 8, "WorkersStarting"),
        ({"scheduleLimit": 2}, 2, "WorkersStarting"),
        ({"parallel": False}, 1, "WorkersStarting"),
        ({"scheduleLimit": 0}, 0, "LimitIsZero"),
        ({"suspend": True}, 0, "Suspended"),
        ({}, 3, "WorkersStarting"),
        ({"scaling": {"mode": "Fixed"}}, 3, "WorkersStarting"),
        ({"scaling": {"mode": "External"}, "replicas": 2}, 2, "WorkersStarting"),
    ]
    for spec, workers, reason in cases:
        jobs.apply(**({"scaling": fast} | spec))
        await_(f"{workers} workers for {spec}", partial(has_replicas, jobs, workers))
        limit = ask(fresh_database, "select schedule_limit from striped.job where namespace = %s", namespace)
        assert limit == (0 if spec.get("suspend") else 1 if "parallel" in spec else spec.get("scheduleLimit", 3))
        if reason != "WorkersStarting":
            jobs.until("Ready", reason)
    jobs.kubectl("scale", "stripedjob/job", "--replicas=1")
    await_("one worker", lambda: jobs.replicas() == 1)
    refused = jobs.kubectl.done("scale", "stripedjob/job", "--replicas=4")
    assert "must not be above scheduleLimit" in refused.stderr
    jobs.told("Suspended", "Resumed")


@pytest.mark.usefixtures("operator")
def test_what_is_wrong_is_said_and_heals(jobs: Jobs, namespace: str, fresh_database: str, fresh_valkey: str) -> None:
    jobs.kubectl("delete", "secret", jobs.secret)
    jobs.apply(minWorkers=1)
    condition = jobs.until("PoolReachable", "SecretNotFound")
    assert jobs.secret in condition["message"]
    assert jobs.condition("Ready")["status"] == "False"
    jobs.secret_of(other="x")
    assert "its keys: other" in jobs.until("PoolReachable", "SecretKeyNotFound")["message"]
    jobs.secret_of(postgres=DEAD_URL, redis=fresh_valkey)
    jobs.until("PoolReachable", "PoolUnreachable")
    assert jobs.replicas() == 0  # no worker before the pool is there
    jobs.secret_of(postgres=fresh_database, redis="redis://127.0.0.1:1")
    jobs.until("PoolReachable", "Reachable")
    assert jobs.until("LockReachable", "LockUnreachable")["status"] == "False"
    await_("a worker", lambda: jobs.replicas() == 1)
    before = (jobs.deployment() or {})["spec"]["template"]["metadata"]["annotations"]
    jobs.secret_of(postgres=fresh_database, redis=fresh_valkey)
    jobs.until("LockReachable", "Reachable")
    await_(
        "the pods are rolled",
        lambda: (jobs.deployment() or {})["spec"]["template"]["metadata"]["annotations"] != before,
        20,
    )
    jobs.told("SecretNotFound", "LockUnreachable", "NoProblem")
    jobs.apply("late", jobType="job")
    assert 'StripedJob "job" is older' in jobs.until("Ready", "PoolConflict", "late")["message"]
    assert jobs.replicas("late") == 0
    jobs.kubectl("delete", "stripedjob", "job")
    await_("the younger one's turn", lambda: jobs.condition("Ready", "late").get("reason") == "Idle")
    jobs.apply("odd", template={"spec": {"containers": [{"name": "worker", "image": "x", "ports": "none"}]}})
    jobs.until("Ready", "ApplyRefused", "odd")
    assert namespace


@pytest.mark.acceptance("A11")
@pytest.mark.usefixtures("operator")
def test_deletion_cleans_up_and_never_hangs(jobs: Jobs, namespace: str, fresh_database: str, fresh_valkey: str) -> None:
    pool = jobs.make()["spec"]["pool"]
    jobs.apply("kept")
    jobs.apply("cleaned", pool=pool | {"deletionPolicy": "Delete"})
    for name in ("kept", "cleaned"):
        jobs.until("Ready", "Idle", name)
        enqueue(fresh_database, namespace, job=name)
        jobs.kubectl("delete", "stripedjob", name, "--timeout=30s")
        await_("its objects are gone", partial(is_gone, jobs, name), 30)
    assert ask(fresh_database, "select count(*) from striped.unit") == 10
    jobs.secret_of(postgres=DEAD_URL, redis=fresh_valkey)
    jobs.apply("stuck", pool=pool | {"deletionPolicy": "Delete"})
    jobs.until("PoolReachable", "PoolUnreachable", "stuck")
    jobs.kubectl("delete", "stripedjob", "stuck", "--timeout=60s")
    jobs.told("CleanupFailed")


@pytest.mark.usefixtures("operator")
def test_a_delegator_is_there_while_there_are_workers(jobs: Jobs) -> None:
    def delegator() -> int | None:
        found = jobs.kubectl.done("get", "deployment", "job-delegator", "-o", "jsonpath={.spec.replicas}")
        return int(found.stdout) if found.returncode == 0 else None

    jobs.apply(strategy="Delegator")
    jobs.until("Ready", "Idle")
    await_("a delegator for nobody", lambda: delegator() == 0)
    jobs.apply(strategy="Throttled", throttle={"maxOutstanding": 2}, minWorkers=1)
    await_("a delegator for the worker", lambda: delegator() == 1)
    jobs.kubectl("scale", "deployment/job-delegator", "--replicas=3")
    await_("it is one again", lambda: delegator() == 1)
    assert jobs.replicas() == 1
    jobs.apply(minWorkers=1)
    await_("no delegator", lambda: delegator() is None)


COUNT = "select count(*) from striped.unit"


@pytest.mark.acceptance("A44")
@pytest.mark.acceptance("A48")
def test_two_operators_one_schedule_and_a_killed_leader(
    operator: Operator, jobs: Jobs, namespace: str, fresh_database: str, tmp_path: Path
) -> None:
    await_("the first leads", lambda: "leading" in operator.log.read_text())
    second = Operator(jobs.kubectl.kubeconfig, namespace, tmp_path / "second.log").start()
    try:
        sql = "select 'r' || n, json_build_object('n', n) from generate_series(1, 2) n;"
        jobs.apply(minWorkers=1, schedule={"cron": "* * * * *", "enqueue": {"sql": sql}})
        jobs.until("ScheduleWorks", "Scheduled")
        await_("a worker", lambda: bool(jobs.replicas()))  # or two: a minute may have begun, with two units
        assert operator.stop(signal.SIGKILL) == -signal.SIGKILL
        await_("the other leads", lambda: "leading" in second.log.read_text(), 20)
        operator.start()
        earlier = ask(fresh_database, COUNT)
        await_("a period", lambda: ask(fresh_database, COUNT) != earlier, 75)
        time.sleep(3)
        assert ask(
            fresh_database, "select count(*) = 2 * count(distinct date_trunc('minute', enqueued_at)) from striped.unit"
        )
        assert jobs.status()["lastScheduleTime"].endswith(":00Z")
        after = jobs.kubectl.json("get", "deployment", "job-worker")["metadata"]
        assert after["generation"] <= 3  # made, and scaled for the units of two periods: the new leader changed nothing
    finally:
        second.stop()


def test_two_jobs_of_one_database_and_the_endpoints(operator: Operator, jobs: Jobs) -> None:
    for name in ("one", "two"):
        jobs.apply(name)
    for name in ("one", "two"):
        jobs.until("Ready", "Idle", name)
    assert operator.get("/livez") == "ok\n"
    metrics = operator.get("/metrics")
    assert "stripedjob_operator_stripedjobs 2.0" in metrics
    before = operator.get("/metrics")
    time.sleep(5)
    calls = [
        sum(
            float(line.split()[-1])
            for line in text.splitlines()
            if line.startswith("stripedjob_operator_api_requests_t")
        )
        for text in (before, operator.get("/metrics"))
    ]
    assert calls[1] - calls[0] <= 8  # the Lease's renewals and looks at one Secret: nothing else at rest
    assert operator.stop() == 0
