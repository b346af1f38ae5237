"""The Helm chart: what it renders is what is checked in, what the API server takes, and restricted.

scripts/test cluster -k as_checked_in --renew    writes what it renders to tests/cluster/rendered
"""

from __future__ import annotations

import copy
import json
import re
import shutil
import tarfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.cluster_kit.fixtures import await_, new_namespace
from tests.cluster_kit.home import ROOT
from tests.support.factories import INPUTS, job

from stripedjob import __version__
from stripedjob.spec.load import load
from stripedjob_operator.manifests import children, deployment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster_kit.fixtures import Program, RunningCluster

    from stripedjob.spec.model import StripedJob

CHART = ROOT / "deploy" / "helm" / "stripedjob"
CRD = ROOT / "deploy" / "crds" / "stripedjobs.yaml"
RENDERED = Path(__file__).parent / "rendered"
CRD_NAME = "stripedjobs.striped.dev"
ON = {"enabled": True}
VALUES: dict[str, dict[str, Any]] = {
    "default": {},
    "namespaced": {"namespaces": ["shop", "mail"], "crds": {"install": False}, "replicas": 1},
    "databases": {"databases": ON},
    "everything": {
        "image": {"repository": "registry.example.com/operator", "tag": "1.2.3", "pullPolicy": "Always"},
        "workerImage": {"repository": "registry.example.com/worker", "tag": "1.2.3"},
        "imagePullSecrets": [{"name": "registry"}],
        "replicas": 3,
        "priorityClasses": {"high": 50, "low": -100},
        "serviceAccount": {"name": "mine", "annotations": {"example.com/identity": "operator"}},
        "resources": {"limits": {"cpu": 1}},
        "podAnnotations": {"example.com/a": "b"},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "control-plane", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "system-cluster-critical",
        "serviceMonitor": ON | {"interval": "15s", "labels": {"release": "prometheus"}},
        "podMonitor": ON | {"interval": "15s"},
        "prometheusRule": ON | {"labels": {"release": "prometheus"}},
        "dashboard": ON,
        "databases": ON,
        "ui": ON
        | {
            "secret": {"name": "pool", "key": "postgres"},
            "allowActions": True,
            "showPayloads": True,
            "trustProxy": True,
            "hosts": ["jobs.example.com"],
            "from": [{"podSelector": {"matchLabels": {"app": "oauth2-proxy"}}}],
        },
    },
    "ui": {"ui": ON | {"secret": {"name": "pool"}}},
    "nothing": {name: {"enabled": False} for name in ("podDisruptionBudget", "networkPolicy")}
    | {"crds": {"install": False}},
}


@pytest.fixture(scope="module")
def restricted(cluster: RunningCluster) -> Iterator[Program]:
    """Yield kubectl in a namespace that takes restricted pods alone."""
    with new_namespace(cluster) as name:
        cluster.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
        yield replace(cluster.kubectl, namespace=name)


@pytest.fixture
def helm(cluster: RunningCluster, restricted: Program) -> Program:
    return replace(cluster.helm, namespace=restricted.namespace)


def render(helm: Program, values: dict[str, Any]) -> str:
    return helm("template", "release", CHART, "--values", "-", stdin=yaml.safe_dump(values))


def objects(text: str) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(text) if one]


def pod_of(made: dict[str, Any]) -> dict[str, Any]:
    template = made["spec"]["template"]
    metadata = template["metadata"] | {"name": f"pod-of-{made['metadata']['name']}"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def dry_run(kubectl: Program, *made: dict[str, Any]) -> None:
    """Have the API server judge objects, and the pods of Deployments: of a Deployment it only warns."""
    accounts = [one for one in made if one["kind"] == "ServiceAccount"]
    if accounts:  # pods need theirs there
        kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(accounts))
    pods = [pod_of(one) for one in made if one["kind"] == "Deployment"]
    text = yaml.safe_dump_all([*made, *pods])
    done = kubectl.done("apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-", stdin=text)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.count("serverside-applied (server dry run)") == len(made) + len(pods)


@pytest.mark.parametrize("name", VALUES)
def test_it_renders_as_checked_in(cluster: RunningCluster, name: str, request: pytest.FixtureRequest) -> None:
    helm = replace(cluster.helm, namespace="striped-system")
    text = re.sub(r"(password: |postgres:)[A-Za-z0-9]{24}", r"\1RANDOM", render(helm, VALUES[name]))
    made = [one for one in objects(text) if one["kind"] != "CustomResourceDefinition"]  # deploy/crds has it
    text = yaml.safe_dump_all(made, sort_keys=False, width=120)
    file = RENDERED / f"{name}.yaml"
    if request.config.getoption("--renew"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    assert text == file.read_text(), (
        "look at the difference; if it is wanted: scripts/test cluster -k as_checked_in --renew"
    )


def test_every_file_checked_in_is_rendered() -> None:
    assert {file.stem for file in RENDERED.iterdir()} == set(VALUES)


@pytest.mark.parametrize("name", VALUES)
def test_the_api_server_takes_all_of_it_and_the_pods_are_restricted(
    helm: Program, restricted: Program, name: str
) -> None:
    values = copy.deepcopy(VALUES[name])
    if "namespaces" in values:
        values["namespaces"] = [restricted.namespace]
    made = objects(render(helm, values))
    # The schemas of these are the Prometheus operator's, which is not here: the rendered file shows them.
    known = [one for one in made if one["kind"] not in ("ServiceMonitor", "PodMonitor", "PrometheusRule")]
    assert (len(known) < len(made)) == ("serviceMonitor" in values)
    dry_run(restricted, *known)


def test_a_pod_that_is_not_restricted_would_be_seen(restricted: Program) -> None:
    privileged = {"containers": [{"name": "a", "image": "a", "securityContext": {"privileged": True}}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": privileged}
    with pytest.raises(AssertionError, match="violates PodSecurity"):
        dry_run(restricted, pod)


LAID = {
    "metadata": {"labels": {"team": "shop"}},
    "spec": {
        "tolerations": [{"operator": "Exists"}],
        "containers": [
            {"name": "worker", "env": [{"name": "A", "value": "b"}, {"name": "C", "value": None}], "command": ["a"]},
            {
                "name": "sidecar",
                "image": "a",
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            },
        ],
        "volumes": [{"name": "tmp", "emptyDir": {"medium": "Memory"}}],
    },
}
JOBS = {
    "plain": job(),
    "longest": job("a" * 47),
    "everything": job(networkPolicy=True, drainSeconds=86_400, importance=100, template=LAID),
} | {path.parent.name: load(path) for path in sorted(ROOT.glob("examples/*/stripedjob.yaml"))}


@pytest.mark.parametrize("name", JOBS)
def test_the_api_server_takes_what_the_operator_makes(crd: None, restricted: Program, name: str) -> None:  # noqa: ARG001
    one: StripedJob = JOBS[name]
    inputs = replace(INPUTS, priority_classes=((0, "system-cluster-critical"),))
    made = [*children(one, inputs).values(), deployment(one, inputs, {})]
    for each in made:
        each["metadata"]["namespace"] = restricted.namespace
        del each["metadata"]["ownerReferences"]  # of a StripedJob that is not there
    dry_run(restricted, *made)


@pytest.mark.parametrize("path", sorted(ROOT.glob("examples/*/stripedjob.yaml")), ids=lambda path: path.parent.name)
def test_the_examples_are_accepted_and_shown(crd: None, kubectl: Program, path: Path) -> None:  # noqa: ARG001
    kubectl("apply", "-f", path)
    shown = kubectl("get", "sj")
    names = "NAME TYPE STRATEGY LOCK WORKERS LIMIT PENDING IN-FLIGHT DEAD READY AGE"
    assert shown.split()[: len(names.split())] == names.split()
    assert kubectl("get", "all", "-o", "name").split() == [f"stripedjob.striped.dev/{path.parent.name}"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nosuch": 1}, "additional properties 'nosuch' not allowed"),
        ({"image": {"tag": 1.2}}, "at '/image/tag': got number, want string"),
        ({"image": {"pullPolicy": "Sometimes"}}, "at '/image/pullPolicy': value must be one of 'Always'"),
        ({"workerImage": {"repository": ""}}, "at '/workerImage/repository': minLength"),
        ({"imagePullSecrets": ["registry"]}, "at '/imagePullSecrets/0': got string, want object"),
        ({"replicas": "two"}, "at '/replicas': got string, want integer"),
        ({"replicas": 11}, "at '/replicas': maximum: got 11, want 10"),
        ({"namespaces": "shop"}, "at '/namespaces': got string, want array"),
        ({"namespaces": ["Shop"]}, "at '/namespaces/0': 'Shop' does not match pattern"),
        ({"namespaces": ["shop", "shop"]}, "at '/namespaces': items at 0 and 1 are equal"),
        ({"priorityClasses": {"high": "50"}}, "at '/priorityClasses/high': got string, want integer"),
        ({"priorityClasses": {"high": 101}}, "at '/priorityClasses/high': maximum: got 101, want 100"),
        ({"serviceMonitor": {"interval": "soon"}}, "at '/serviceMonitor/interval': 'soon' does not match pattern"),
        ({"databases": {"enabled": "yes"}}, "at '/databases/enabled': got string, want boolean"),
        ({"ui": {"enabled": True}}, "at '/ui/secret/name': minLength: got 0, want 1"),
        (
            {"ui": {"enabled": True, "secret": {"name": "a"}, "trustProxy": True}},
            "at '/ui/from': minItems: got 0, want 1",
        ),
        ({"ui": {"hosts": ["a b"]}}, "at '/ui/hosts/0': 'a b' does not match pattern"),
        ({"crds": {"keep": True}}, "at '/crds': additional properties 'keep' not allowed"),
    ],
    ids=str,
)
def test_bad_values_are_refused_with_a_message(cluster: RunningCluster, values: dict[str, Any], message: str) -> None:
    words = ("template", "release", CHART, "--values", "-")
    done = cluster.helm.done(*words, stdin=yaml.safe_dump(values))
    assert done.returncode == 1
    assert message in done.stderr


def test_every_value_has_a_schema_and_a_comment() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    text = (CHART / "values.yaml").read_text()
    values = yaml.safe_load(text)
    assert set(schema["properties"]) - {"global"} == set(values)
    for name, value in values.items():
        properties = schema["properties"][name].get("properties")
        if properties and isinstance(value, dict):
            assert set(properties) == set(value), name
    lines = text.splitlines()
    bare = {
        "image:",
        "workerImage:",
        "crds:",
        "podDisruptionBudget:",
        "networkPolicy:",
        "serviceMonitor:",
        "podMonitor:",
        "prometheusRule:",
        "dashboard:",
        "databases:",
        "ui:",
    }
    bare |= {"serviceAccount:", "  repository: ghcr.io/stripedjob/operator", "  repository: ghcr.io/stripedjob/worker"}
    bare |= {"  pullPolicy: IfNotPresent", "  requests: {cpu: 50m, memory: 128Mi}", "  limits: {memory: 512Mi}"}
    bare |= {"    requests: {cpu: 10m, memory: 96Mi}", "    limits: {memory: 256Mi}"}
    for before, line in zip(["", *lines], lines, strict=False):
        assert not line or line.lstrip().startswith("#") or before.lstrip().startswith("#") or line in bare, line


def test_the_chart_is_clean_and_of_the_packages_version(cluster: RunningCluster) -> None:
    assert "0 chart(s) failed" in cluster.helm("lint", "--strict", CHART)
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == __version__


def test_the_package_has_the_crd_and_so_has_what_it_renders(cluster: RunningCluster, tmp_path: Path) -> None:
    cluster.helm("package", CHART, "--destination", tmp_path)
    package = tmp_path / f"stripedjob-{__version__}.tgz"
    with tarfile.open(package) as tar:
        packed = tar.extractfile("stripedjob/files/stripedjobs.yaml")
        assert packed is not None
        assert packed.read() == CRD.read_bytes()
    (made,) = [
        one
        for one in objects(cluster.helm("template", "release", package))
        if one["kind"] == "CustomResourceDefinition"
    ]
    assert made["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    assert made["metadata"].pop("labels")
    assert made == yaml.safe_load(CRD.read_text())


def assert_users_may_use_it(kubectl: Program) -> None:
    """Who may edit or view the namespace may edit or view its StripedJobs."""

    def may(user: str, verb: str, part: str = "") -> bool:
        words = (verb, "stripedjobs.striped.dev", f"--subresource={part}", f"--as={user}")
        return kubectl.done("auth", "can-i", *words).returncode == 0

    for role in ("edit", "view"):
        kubectl("create", "rolebinding", role, f"--clusterrole={role}", f"--user={role}or")
        await_(f"{role} has the rules", partial(may, f"{role}or", "get"), 30)
    assert may("editor", "create")
    assert may("editor", "patch", "scale")
    assert not may("viewor", "create")
    assert not may("editor", "patch", "status")
    assert not may("nobody", "get")


def test_an_upgrade_upgrades_the_resource_and_removal_leaves_it(
    crd: None,  # noqa: ARG001
    helm: Program,
    restricted: Program,
    tmp_path: Path,
) -> None:
    older = shutil.copytree(CHART, tmp_path / "older")
    whole = yaml.safe_load(CRD.read_text())
    spec = whole["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    del spec["networkPolicy"]
    (older / "files" / "stripedjobs.yaml").write_text(yaml.safe_dump(whole))
    values = ("--set", f"namespaces={{{helm.namespace}}},replicas=1")

    def knows_field() -> bool:
        found = restricted.json("get", "crd", CRD_NAME)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        return "networkPolicy" in found["properties"]["spec"]["properties"]

    # The tests have applied the resource before: --take-ownership and --force-conflicts are for just that.
    take = ("--take-ownership", "--force-conflicts")
    said = helm("install", "release", older, *values, *take)
    try:
        assert f"The operator looks after StripedJobs in {helm.namespace}." in said
        assert f"kubectl delete crd {CRD_NAME}" in said
        assert not knows_field()
        assert_users_may_use_it(restricted)
        restricted.apply(*objects((ROOT / "examples" / "seed" / "stripedjob.yaml").read_text()))
        await_("the API server admits the operator's pod", lambda: restricted("get", "pods", "-o", "name"), 30)
        helm("upgrade", "release", CHART, *values)
        assert knows_field()
    finally:
        helm("uninstall", "release", "--wait")
    restricted("delete", "stripedjob", "seed")
