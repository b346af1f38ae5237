"""How many workers there are, and how many of them work: always as the spec says, whoever has a hand in it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.cluster_kit.fixtures import await_
from tests.support.pods import WORK_ALL, PodJob

if TYPE_CHECKING:
    from tests.support.measured import Measured

AT_ONCE = {"scaleDownDelaySeconds": 0}
FIRST_WORK_SECONDS = 60  # from `kubectl apply`, images present: some 4 s where nothing else runs, as is printed
SCALED_SECONDS = 60
UNDONE_SECONDS = 60
DRAINED_SECONDS = 60


@pytest.mark.acceptance("A07")
@pytest.mark.acceptance("A14")
@pytest.mark.acceptance("A16")
@pytest.mark.acceptance("A17")
def test_workers_follow_the_backlog_and_the_limit(job: PodJob, measured: Measured) -> None:
    applied = time.monotonic()
    job.apply(scheduleLimit=5, minWorkers=1, handler=WORK_ALL)
    await_("the Deployment", lambda: job.jobs.deployment(job.name))
    measured("Deployment after", time.monotonic() - applied)
    job.wait("PoolReachable", 60)
    job.enqueue(1, 1, 0, "first")
    await_("the first work", job.done, FIRST_WORK_SECONDS)
    measured("first work after", time.monotonic() - applied)
    job.wait("Ready", 60)

    job.enqueue(10_000, 500, 0.001)  # 10 s of work
    measured("scaled out after", job.scaled(5, SCALED_SECONDS))
    job.check(120)
    assert 1 < job.peak() <= 5

    job.apply(scheduleLimit=8, minWorkers=8, scaling=AT_ONCE)
    await_("eight workers", lambda: len(job.ready()) == 8, 60)
    job.enqueue(120, 120, 0.2, "slow")
    await_("all eight work", lambda: job.done("slow") > 16, 30)
    job.apply(scheduleLimit=2, minWorkers=2)
    job.wait("{.status.replicas}=2", 60)
    await_("the others have drained", lambda: len(job.pods(ending=True)) == 2, DRAINED_SECONDS)
    lowered = job.site.one("select clock_timestamp()")
    job.enqueue(20, 20, 0.2, "lowered")
    job.check(120)
    assert 2 < job.peak() <= 8
    assert 1 <= job.peak(lowered) <= 2
    assert job.numbers()["total_crashed"] == 0
    job.apply(minWorkers=0)
    job.scaled(0, 20)
    job.wait("Ready", 60)


@pytest.mark.acceptance("A18")
@pytest.mark.acceptance("A20")
def test_none_works_at_limit_zero_or_while_suspended(job: PodJob) -> None:
    job.apply(scheduleLimit=0)
    job.wait("Ready", 60)
    job.enqueue(120, 40, 0.1)
    await_("the backlog is seen", lambda: job.jobs.status(job.name)["pool"]["pending"] == 120)
    assert job.jobs.condition("Ready", job.name)["reason"] == "LimitIsZero"
    assert job.pods() == []

    job.apply(scheduleLimit=2)
    await_("some is done", lambda: job.done() > 10, 30)
    job.apply(suspend=True)
    await_("no worker", lambda: not job.pods(ending=True), DRAINED_SECONDS)
    done = job.done()
    assert done < 120
    assert job.jobs.condition("Ready", job.name)["reason"] == "Suspended"
    assert job.numbers()["in_flight"] == 0

    job.apply(suspend=False)
    job.check(60)
    assert job.peak() <= 2
    assert job.numbers()["total_crashed"] == 0
    job.jobs.told("Suspended", "Resumed")


@pytest.mark.acceptance("A25")
def test_a_delegator_and_the_one_worker_share_one_slot(job: PodJob) -> None:
    job.apply(strategy="Delegator", scheduleLimit=1)
    job.wait("Ready", 60)
    assert job.pods() == []
    job.enqueue(200, 20, 0.04)
    job.wait("{.status.workers.working}=1", 60)
    assert sorted(pod_kind(pod) for pod in job.pods()) == ["stripedjob-delegator", "stripedjob-worker"]
    job.check(60)
    assert job.peak() == 1
    assert job.numbers()["total_crashed"] == 0
    job.apply(scaling=AT_ONCE)
    await_("nobody is left", lambda: not job.pods(ending=True), DRAINED_SECONDS)
    job.enqueue(1, 1, 0, "late")
    job.check(30)


def pod_kind(pod: dict[str, Any]) -> str:
    return str(pod["metadata"]["labels"]["app.kubernetes.io/name"])


@pytest.mark.acceptance("A15")
@pytest.mark.acceptance("A19")
@pytest.mark.acceptance("A48")
def test_one_works_of_three_and_what_was_done_by_hand_is_undone(job: PodJob, measured: Measured) -> None:
    kubectl, deployment = job.site.kubectl, f"deployment/{job.name}-worker"
    job.apply(scheduleLimit=5, parallel=False)
    job.wait("Ready", 60)
    job.enqueue(100, 20, 0.1)
    await_("one works", job.done, 30)
    (first,) = job.pods()

    kubectl("scale", "deployment/op-operator", "--replicas=0")  # nobody puts it back now
    await_("no operator", lambda: not job.site.operators(), 30)
    kubectl("scale", deployment, "--replicas=3")
    await_("three workers", lambda: len(job.ready()) == 3, 30)
    job.enqueue(100, 20, 0.1, "more")
    done = job.done()
    await_("work goes on", lambda: job.done() > done + 20, 30)
    kubectl("scale", "deployment/op-operator", "--replicas=2")
    measured("scaled down again, with no operator at first, after", job.scaled(1, 30))
    kept = next(pod for pod in job.pods(ending=True) if pod["metadata"]["uid"] == first["metadata"]["uid"])
    assert "deletionTimestamp" not in kept["metadata"]  # the idle ones went
    assert kept["status"]["containerStatuses"][0]["restartCount"] == 0

    for by_hand, is_undone in (
        (("scale", deployment, "--replicas=4"), lambda: job.jobs.replicas(job.name) == 1),
        (("set", "image", deployment, "worker=other"), lambda: "other" not in str(job.jobs.deployment(job.name))),
        (("delete", deployment, "--wait=false"), lambda: job.jobs.replicas(job.name) == 1),
    ):
        began = time.monotonic()
        kubectl(*by_hand)
        await_("it is undone", is_undone, UNDONE_SECONDS)
        measured(f"{by_hand[0]} undone after", time.monotonic() - began)
    job.check(90)
    assert job.peak() == 1
    assert job.numbers()["total_crashed"] == 0
