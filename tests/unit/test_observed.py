from __future__ import annotations

from typing import Any

import pytest
from tests.support.factories import raw

from stripedjob_operator.observed import DELEGATOR, NAME_LABEL, Observed, Pod, Problem, key_of, owner_of, read_pod

KEY = ("shop", "listing")
OTHER = "other-uid"


def test_what_is_older_than_what_is_known_is_left_aside() -> None:
    seen = Observed()
    assert seen.job_seen(raw(version=5))
    assert not seen.job_seen(raw(version=5))
    assert not seen.job_seen(raw(version=4, spec="old"))
    assert seen.jobs[KEY]["spec"] == "{}", "as text"
    assert seen.job_seen(raw(version=6, metadata={"managedFields": ["long"]}))
    assert "managedFields" not in seen.jobs[KEY]["metadata"]
    assert not seen.job_seen(raw(version=5, uid=OTHER)), "of one that was deleted before"
    assert seen.job_seen(raw(version=7, uid=OTHER)), "made again under its name"
    seen.job_gone(KEY, raw())
    assert seen.jobs == {}


def test_the_answer_to_a_write_does_not_bring_back_what_was_deleted_meanwhile() -> None:
    seen = Observed()
    assert not seen.job_seen(raw(version=5), written=True)
    seen.job_seen(raw(version=7, uid=OTHER))
    assert not seen.job_seen(raw(version=8), written=True)
    assert seen.jobs[KEY]["metadata"]["uid"] == OTHER


def test_a_watch_that_does_not_tell_of_our_writes_has_stalled(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr("stripedjob_operator.observed.time.monotonic", lambda: clock[0])
    seen = Observed()
    seen.job_seen(raw(version=1))
    seen.job_seen(raw(version=5), written=True)
    clock[0] += 60
    seen.job_seen(raw(version=9), written=True)
    assert seen.watch_problem() is None
    clock[0] += 60
    assert seen.watch_problem() == "the watch of StripedJobs has stalled", "counted from the first write"
    seen.job_seen(raw(version=5))
    assert seen.watch_problem() is None, "it goes on"


def test_a_watch_that_is_quicker_than_the_answer_has_not_stalled(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr("stripedjob_operator.observed.time.monotonic", lambda: clock[0])
    seen = Observed()
    seen.job_seen(raw(version=1))
    seen.job_seen(raw(version=5))
    seen.job_seen(raw(version=5), written=True)
    seen.job_seen(raw("gone", version=1))
    seen.job_seen(raw("gone", version=6), written=True)
    seen.job_gone(("shop", "gone"), raw("gone"))
    clock[0] += 1000
    assert seen.watch_problem() is None


def test_a_deployment_that_has_taken_the_name_of_a_deleted_one_stays() -> None:
    seen = Observed()
    seen.deployment_seen(KEY, raw(version=5, uid=OTHER, spec={"replicas": 1}))
    seen.deployment_gone(KEY, raw(version=6))
    assert KEY in seen.deployments
    seen.deployment_gone(KEY, raw(version=6, uid=OTHER))
    seen.deployment_gone(KEY, raw(version=6, uid=OTHER))
    assert seen.deployments == {}


def test_the_delegators_deployment_is_kept_apart() -> None:
    seen = Observed()
    delegator = raw(version=1, spec={"replicas": 1}, metadata={"labels": {NAME_LABEL: DELEGATOR}})
    seen.deployment_seen(KEY, delegator)
    assert (seen.deployments, list(seen.delegators)) == ({}, [KEY])
    seen.deployment_gone(KEY, delegator)
    assert seen.delegators == {}


def test_pods_are_news_only_where_something_that_matters_has_changed() -> None:
    seen = Observed()
    assert seen.pod_seen(KEY, raw("p1"))
    assert not seen.pod_seen(KEY, raw("p1", version=2, spec={"nodeName": "n"}))
    assert seen.pod_seen(KEY, raw("p1", version=3, metadata={"deletionTimestamp": "now"}))
    seen.pod_gone(KEY, raw("p1"))
    seen.pod_gone(KEY, raw("p1"))
    assert seen.pods == {}


def test_owners_and_keys() -> None:
    assert key_of(raw()) == KEY
    assert owner_of(raw("listing-worker-x", metadata={"labels": {"striped.dev/job": "listing"}})) == KEY
    assert owner_of(raw("stray")) is None


def container(**state: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"name": "worker", **state}]}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return container(state={"waiting": {"reason": reason} | ({"message": message} if message else {})})


LAST = {"terminated": {"exitCode": 78, "message": 'starting\n{"event": "no module named shop", "level": "error"}\n'}}
UNSCHEDULABLE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
READY = {"type": "Ready", "status": "True"}


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        ({}, None),
        (waiting("ContainerCreating"), None),
        (waiting("ImagePullBackOff", "no such image"), ("ImagePullBackOff", "container worker: no such image")),
        (
            waiting("CreateContainerConfigError"),
            ("CreateContainerConfigError", "container worker: CreateContainerConf"),
        ),
        (container(state={"terminated": {"exitCode": 0}}), None),
        (container(state={"terminated": {"exitCode": 3}}), ("WorkerFails", "container worker ends: exit code 3")),
        (
            container(state={"waiting": {"reason": "CrashLoopBackOff"}}, lastState=LAST),
            ("WorkerFails", "container worker ends: no module named shop"),
        ),
        (
            {
                "initContainerStatuses": [
                    {"name": "get", "state": {"terminated": {"exitCode": 1, "message": "a\nb \n"}}}
                ]
            },
            ("WorkerFails", "container get ends: b"),
        ),
        ({"conditions": [UNSCHEDULABLE]}, ("Unschedulable", "0/3 nodes")),
        ({"conditions": [UNSCHEDULABLE | {"reason": "SchedulingGated"}]}, None),
        (container(lastState=LAST) | {"conditions": [READY]}, None),  # it works now
    ],
)
def test_what_is_wrong_with_a_pod(status: dict[str, Any], problem: tuple[str, str] | None) -> None:
    found = read_pod(raw(status=status)).problem
    assert (found is None) == (problem is None)
    if found and problem:
        assert (found.reason, found.message[: len(problem[1])]) == problem


def test_what_matters_of_a_pod() -> None:
    annotations = {"controller.kubernetes.io/pod-deletion-cost": "-1000"}
    metadata = {"annotations": annotations, "deletionTimestamp": "now"}
    assert read_pod(raw(metadata=metadata, status={"conditions": [READY]})) == Pod(True, True, "-1000", None)  # noqa: FBT003
    assert read_pod(raw()) == Pod(ready=False, ending=False, deletion_cost="0", problem=None)
    assert Problem("A", "b") == Problem("A", "b")
