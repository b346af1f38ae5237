"""An API server that falls silent, and one that is away: the operator finds out by itself, and goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError

import psycopg
import pytest
from tests.cluster_kit.fixtures import Program, await_
from tests.support.hasty_operator import ECHO_SECONDS_MAX, INACTIVE_SECONDS, STREAM_SECONDS
from tests.support.operators import START_SECONDS_MAX, Jobs, Operator
from tests.support.tcp_proxy import LIST, WATCH, Wire

import stripedjob
from stripedjob import NewUnit

PROGRAM = "tests.support.hasty_operator"
WATCHES = 3  # of StripedJobs, Deployments and pods
REFUSALS = 10  # until then everything in the operator has met the API server's absence
SOON_SECONDS = 60
RENEWED_SECONDS_MAX = STREAM_SECONDS + SOON_SECONDS


@pytest.fixture
def wire(kubectl: Program, tmp_path: Path) -> Iterator[Wire]:
    with Wire(kubectl.kubeconfig, tmp_path) as one:
        yield one


@pytest.fixture
def far_operator(wire: Wire, jobs: Jobs, namespace: str, tmp_path: Path) -> Iterator[Operator]:
    """Start an operator behind the wire, with a StripedJob that has nothing to do."""
    jobs.apply()
    one = Operator(wire.kubeconfig, namespace, tmp_path / "operator.log", program=PROGRAM).start()
    try:
        await_("it leads", lambda: "leading" in one.log.read_text(), START_SECONDS_MAX)
        jobs.until("Ready", "Idle")
        await_("its watches", lambda: len(wire.watches()) == WATCHES, RENEWED_SECONDS_MAX)
        yield one
        assert one.stop() == 0
        assert [one["event"] for one in one.records()].count("leading") == 1, "it was the leader all along"
    finally:
        one.stop()


def is_live(operator: Operator) -> bool:
    try:
        return operator.get("/livez") == "ok\n"
    except HTTPError as error:
        with error:
            return error.code != 503


def test_a_watch_that_falls_silent_is_replaced(far_operator: Operator, jobs: Jobs, wire: Wire) -> None:
    assert wire.silence() == WATCHES
    jobs.apply(minWorkers=2)
    await_("the edit is seen", lambda: jobs.replicas() == 2, INACTIVE_SECONDS + SOON_SECONDS)
    assert is_live(far_operator)


def test_liveness_follows_the_watch(
    far_operator: Operator, jobs: Jobs, wire: Wire, namespace: str, fresh_database: str
) -> None:
    wire.muted = (WATCH, LIST)
    assert wire.silence() == WATCHES
    with psycopg.connect(fresh_database) as conn:
        stripedjob.enqueue(conn, "job", NewUnit(resource="r"), namespace=namespace)
    await_("it works on", lambda: jobs.status()["pool"]["pending"] == 1, SOON_SECONDS)
    assert is_live(far_operator), "a watch may be late"
    await_("it says so", lambda: not is_live(far_operator), ECHO_SECONDS_MAX + SOON_SECONDS)
    wire.muted = ()
    await_("the watch is heard again", lambda: is_live(far_operator), INACTIVE_SECONDS + SOON_SECONDS)


def test_an_api_server_that_was_away(far_operator: Operator, jobs: Jobs, wire: Wire) -> None:
    wire.is_away = True
    wire.cut()
    await_("it is missed", lambda: wire.refused >= REFUSALS, SOON_SECONDS)
    jobs.apply(minWorkers=2)
    wire.is_away = False
    await_("the edit is seen", lambda: jobs.replicas() == 2, INACTIVE_SECONDS + SOON_SECONDS)
    assert is_live(far_operator)


def test_a_new_operator_whose_watch_of_deployments_comes_last(
    operator: Operator, jobs: Jobs, wire: Wire, namespace: str, tmp_path: Path
) -> None:
    jobs.apply(minWorkers=2)
    await_("two workers", lambda: jobs.replicas() == 2 and len(pods(jobs)) == 2)
    jobs.until("Progressing", "Scaling")
    assert operator.stop() == 0
    before = pods(jobs)
    wire.muted = (b"/deployments?",)
    new = Operator(wire.kubeconfig, namespace, tmp_path / "new.log", program=PROGRAM).start()
    try:
        jobs.apply(minWorkers=2, networkPolicy=True)
        kubectl = jobs.kubectl
        await_("the edit is followed", lambda: kubectl("get", "networkpolicy", "-o", "name"), START_SECONDS_MAX)
        wire.muted = ()
        jobs.until("PoolReachable", "Reachable")
        assert jobs.replicas() == 2
        assert pods(jobs) == before, "no worker was replaced"
    finally:
        new.stop()


def pods(jobs: Jobs) -> set[str]:
    return {pod["metadata"]["uid"] for pod in jobs.kubectl.json("get", "pods")["items"]}
