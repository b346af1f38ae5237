from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.factories import INPUTS, UID, job

from stripedjob_operator.manifests import (
    CHILDREN_ANNOTATION,
    SECRETS_ANNOTATION,
    child_name,
    children,
    delegator,
    deployment,
    digest,
    merge,
    read_digests,
    selector,
)
from stripedjob_operator.observed import DELEGATOR, JOB_LABEL, NAME_LABEL, OWN

LABELS = {"app.kubernetes.io/name": "stripedjob-worker", "striped.dev/job": "listing"}
OURS = [
    *("STRIPEDJOB_SPEC", "STRIPEDJOB_WORKER", "STRIPEDJOB_PORT", "STRIPEDJOB_PID_FILE"),
    *("STRIPEDJOB_POSTGRES_URL", "STRIPEDJOB_LOCK_URL"),
]


def made(**spec: Any) -> dict[str, Any]:
    return dict(deployment(job(**spec), INPUTS, {})["spec"])


def pod(**spec: Any) -> dict[str, Any]:
    return dict(made(**spec)["template"]["spec"])


def worker(**spec: Any) -> dict[str, Any]:
    return next(one for one in pod(**spec)["containers"] if one["name"] == "worker")


def templated(**container: Any) -> dict[str, Any]:
    """Return the worker's container where the user's template says this of it."""
    return worker(template={"spec": {"containers": [{"name": "worker", **container}]}})


@pytest.mark.parametrize(
    ("base", "over", "merged"),
    [
        ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
        ({"a": 1}, {"a": 2}, {"a": 2}),
        ({"a": 1, "b": 2}, {"a": None}, {"b": 2}),
        ({}, {"a": None}, {}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": None}}, {"a": {"c": 2}}),
        ({}, {"a": {"b": None, "c": [{"d": None}]}}, {"a": {"c": [{}]}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": {"b": 1}}, {"a": 7}, {"a": 7}),
        (
            {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
            {"env": [{"name": "C", "value": "3"}, {"name": "A", "value": "9"}]},
            {"env": [{"name": "A", "value": "9"}, {"name": "B", "value": "2"}, {"name": "C", "value": "3"}]},
        ),
        (
            {"volumes": [{"name": "tmp", "emptyDir": {}}]},
            {"volumes": [{"name": "tmp", "emptyDir": None, "persistentVolumeClaim": {"claimName": "x"}}]},
            {"volumes": [{"name": "tmp", "persistentVolumeClaim": {"claimName": "x"}}]},
        ),
        (
            {"volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}]},
            {"volumeMounts": [{"name": "x", "mountPath": "/x"}, {"mountPath": "/tmp", "readOnly": True}]},
            {
                "volumeMounts": [
                    {"name": "tmp", "mountPath": "/tmp", "readOnly": True},
                    {"name": "x", "mountPath": "/x"},
                ]
            },
        ),
        (
            {"ports": [{"containerPort": 8080, "name": "http"}]},
            {"ports": [{"containerPort": 9090}]},
            {"ports": [{"containerPort": 8080, "name": "http"}, {"containerPort": 9090}]},
        ),
        ({"args": ["a"]}, {"args": ["b", "c"]}, {"args": ["b", "c"]}),
    ],
)
def test_merge(base: Any, over: Any, merged: Any) -> None:
    assert merge(base, over) == merged


leaves = st.none() | st.integers()
names = st.sampled_from(["a", "env", "containers"])
objects = st.dictionaries(names, st.recursive(leaves, lambda inner: st.dictionaries(names, inner), max_leaves=10))
lists = st.dictionaries(names, st.lists(st.dictionaries(st.just("name"), st.sampled_from("xyz")), max_size=3) | leaves)


@given(objects, objects)
def test_merging_twice_is_as_once_and_leaves_no_null(base: Any, over: Any) -> None:
    once = merge(merge({}, base), over)
    assert merge(once, over) == once
    assert "null" not in json.dumps(once)


@given(objects | lists, objects | lists)
def test_merging_changes_what_it_is_given_in_nothing(base: Any, over: Any) -> None:
    before = json.dumps([base, over])
    merge(base, over)
    assert json.dumps([base, over]) == before


def test_every_object_is_owned_and_found_again() -> None:
    objects = [
        *children(job(networkPolicy=True), INPUTS).values(),
        deployment(job(), INPUTS, {"PodDisruptionBudget": "x"}),
    ]
    assert [one["kind"] for one in objects] == ["ServiceAccount", "PodDisruptionBudget", "NetworkPolicy", "Deployment"]
    for one in objects:
        metadata = one["metadata"]
        assert (metadata["namespace"], metadata["name"]) == ("shop", "listing-worker")
        assert metadata["labels"] == LABELS | OWN
        (owner,) = metadata["ownerReferences"]
        assert owner == {
            "apiVersion": "striped.dev/v1alpha1",
            "kind": "StripedJob",
            "name": "listing",
            "uid": UID,
            "controller": True,
        }
    assert json.loads(objects[-1]["metadata"]["annotations"][CHILDREN_ANNOTATION]) == {"PodDisruptionBudget": "x"}


def test_the_longest_name_fits_into_labels() -> None:
    longest = job("a" * 47)
    assert len(child_name(longest)) <= 63
    assert all(len(value) <= 63 for value in selector(longest).values())


def test_the_other_objects() -> None:
    plain = children(job(), INPUTS)
    assert plain.keys() == {"ServiceAccount", "PodDisruptionBudget"}
    assert plain["ServiceAccount"]["automountServiceAccountToken"] is False
    assert plain["PodDisruptionBudget"]["spec"] == {"maxUnavailable": "25%", "selector": {"matchLabels": LABELS}}
    policy = children(job(networkPolicy=True), INPUTS)["NetworkPolicy"]["spec"]
    assert policy["podSelector"] == {"matchLabels": {JOB_LABEL: "listing"}}, "the delegator's pod too"
    assert policy["policyTypes"] == ["Ingress"]
    assert policy["ingress"] == [{"ports": [{"protocol": "TCP", "port": 8080}]}]


def test_the_deployment_never_surges() -> None:
    spec = made()
    assert spec["replicas"] == 2
    assert spec["strategy"]["rollingUpdate"]["maxSurge"] == 0
    assert spec["selector"] == {"matchLabels": LABELS}
    assert spec["template"]["metadata"]["labels"] == LABELS | OWN
    assert spec["template"]["metadata"]["annotations"] == {SECRETS_ANNOTATION: "abc"}


def test_a_delegator_is_the_workers_pod_with_another_command() -> None:
    template = {"spec": {"containers": [{"name": "worker", "image": "own"}], "nodeSelector": {"disk": "ssd"}}}
    one = delegator(job(strategy="Delegator", template=template), INPUTS)
    spec, pod = one["spec"], one["spec"]["template"]["spec"]
    assert one["metadata"]["name"] == "listing-delegator"
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert spec["selector"]["matchLabels"] == LABELS | {NAME_LABEL: DELEGATOR}
    assert spec["template"]["metadata"]["labels"] == LABELS | OWN | {NAME_LABEL: DELEGATOR}
    assert (pod["containers"][0]["image"], pod["containers"][0]["args"]) == ("own", ["delegator"])
    assert pod["nodeSelector"] == {"disk": "ssd"}
    assert delegator(job(strategy="Delegator"), replace(INPUTS, workers=0))["spec"]["replicas"] == 0


def test_the_environment_has_urls_by_reference_alone() -> None:
    env = {one["name"]: one for one in worker()["env"]}
    assert list(env) == OURS
    assert env["STRIPEDJOB_POSTGRES_URL"]["valueFrom"] == {"secretKeyRef": {"name": "databases", "key": "postgres"}}
    assert env["STRIPEDJOB_LOCK_URL"]["valueFrom"] == {"secretKeyRef": {"name": "databases", "key": "redis"}}
    assert env["STRIPEDJOB_WORKER"]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
    assert json.loads(env["STRIPEDJOB_SPEC"]["value"])["spec"]["handler"] == {"python": "a:b"}
    lock = {one["name"] for one in worker(lock={"backend": "Postgres"})["env"]}
    assert "STRIPEDJOB_LOCK_URL" not in lock


def test_the_pod_is_restricted() -> None:
    spec, container = pod(), worker()
    assert spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is False
    assert spec["serviceAccountName"] == "listing-worker"
    assert container["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]  # the rest of the root is read-only


def test_the_pod_drains_is_probed_and_spread() -> None:
    spec, container = pod(drainSeconds=100), worker()
    assert spec["terminationGracePeriodSeconds"] == 115
    assert container["lifecycle"] == {"preStop": {"exec": {"command": ["stripedjob", "drain"]}}}
    assert {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")} == {
        "startup": "/livez",
        "liveness": "/livez",
        "readiness": "/readyz",
    }
    assert spec["shareProcessNamespace"] is True
    (spread,) = spec["topologySpreadConstraints"]
    assert (spread["topologyKey"], spread["whenUnsatisfiable"]) == ("kubernetes.io/hostname", "ScheduleAnyway")
    assert spread["labelSelector"] == {"matchLabels": LABELS}


@pytest.mark.parametrize(
    ("importance", "expected"), [(60, "high"), (50, "high"), (49, "normal"), (0, "normal"), (-1, None)]
)
def test_importance_gives_the_priority_class(importance: int, expected: str | None) -> None:
    inputs = replace(INPUTS, priority_classes=((50, "high"), (0, "normal")))
    spec = deployment(job(importance=importance), inputs, {})["spec"]["template"]["spec"]
    assert spec.get("priorityClassName") == expected


def test_the_users_template_is_laid_on() -> None:
    template = {
        "metadata": {"labels": {"team": "shop"}, "annotations": {"prometheus.io/scrape": "true"}},
        "spec": {
            "nodeSelector": {"disk": "ssd"},
            "terminationGracePeriodSeconds": 300,
            "automountServiceAccountToken": True,
            "containers": [
                {
                    "name": "worker",
                    "image": "mine:2",
                    "resources": {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}},
                    "env": [{"name": "LOG", "value": "debug"}],
                    "securityContext": {"runAsUser": 1000},
                },
                {"name": "proxy", "image": "proxy:1"},
            ],
            "volumes": [{"name": "code", "configMap": {"name": "code"}}],
        },
    }
    spec = pod(template=template)
    metadata = made(template=template)["template"]["metadata"]
    assert metadata["labels"] == {"team": "shop"} | LABELS | OWN
    assert metadata["annotations"] == {"prometheus.io/scrape": "true", SECRETS_ANNOTATION: "abc"}
    assert (spec["nodeSelector"], spec["terminationGracePeriodSeconds"]) == ({"disk": "ssd"}, 300)
    assert spec["automountServiceAccountToken"] is True
    assert [one["name"] for one in spec["containers"]] == ["worker", "proxy"]
    assert [one["name"] for one in spec["volumes"]] == ["tmp", "code"]
    container = worker(template=template)
    assert container["image"] == "mine:2"
    assert container["resources"] == {"requests": {"cpu": "1", "memory": "96Mi"}, "limits": {"memory": "1Gi"}}
    assert [one["name"] for one in container["env"]] == [*OURS, "LOG"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["runAsUser"] == 1000


@pytest.mark.parametrize(
    "env",
    [
        None,
        [],
        [{"name": name, "value": "theirs"} for name in OURS],
        [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}} for name in OURS],
        [{"name": name, "value": None, "valueFrom": None} for name in OURS],
    ],
)
def test_our_environment_is_not_the_users_to_change(env: Any) -> None:
    assert templated(env=env)["env"] == worker()["env"]


@pytest.mark.parametrize(
    "metadata",
    [
        {"labels": None, "annotations": None},
        {"labels": {"striped.dev/job": "other"}, "annotations": {SECRETS_ANNOTATION: "never"}},
        {"labels": {"app.kubernetes.io/managed-by": None}},
    ],
)
def test_the_labels_by_which_pods_are_found_are_not_the_users_to_change(metadata: Any) -> None:
    found = made(template={"metadata": metadata})["template"]["metadata"]
    assert found["labels"] == LABELS | OWN
    assert found["annotations"] == {SECRETS_ANNOTATION: "abc"}


def test_digests_are_stable_and_tell_manifests_apart() -> None:
    one, two = {"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": 1}
    assert digest(one) == digest(two) == "f85d0f4856723d93"
    assert digest(one) != digest(one | {"a": 2})
    assert digest(deployment(job(), INPUTS, {})) == digest(deployment(job(), INPUTS, {}))
    others = [replace(INPUTS, workers=3), replace(INPUTS, image="x"), replace(INPUTS, secrets_version="d")]
    digests = {digest(deployment(job(), inputs, {})) for inputs in (INPUTS, *others)}
    assert len(digests) == 4


def test_what_workers_do_not_look_at_needs_no_new_pods() -> None:
    template = made()["template"]
    assert made(scheduleLimit=3, suspend=True, importance=3, scaling={"mode": "Fixed"})["template"] == template
    assert made(retry={"maxAttempts": 2})["template"] != template


@pytest.mark.parametrize(
    ("annotation", "digests"),
    [
        ('{"NetworkPolicy": "a"}', {"NetworkPolicy": "a"}),
        ("", {}),
        ("nonsense", {}),
        ("[]", {}),
        ('{"Secret": "a"}', {}),  # a kind that the operator does not make: nothing is deleted on somebody's word
    ],
)
def test_the_annotation_is_not_believed_blindly(annotation: str, digests: dict[str, str]) -> None:
    assert read_digests(annotation) == digests
