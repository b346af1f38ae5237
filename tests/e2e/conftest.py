"""One operator, by its chart, and databases for all tests that need no others; every test has jobs of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from tests.cluster_kit.fixtures import Program, RunningCluster, new_namespace, start_databases
from tests.cluster_kit.home import ROOT, STATE
from tests.support.pods import TABLES, Clock, PodJob, Site

CHART = ROOT / "deploy" / "helm" / "stripedjob"
TICKS = 2  # units a minute of the clock that runs beside all tests
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"


@contextlib.contextmanager
def volume(cluster: RunningCluster, kubectl: Program) -> Iterator[dict[str, Any]]:
    """Have a volume on the node, so that a database's pod can be another one than before."""
    node, name = cluster.nodes()[-1], f"postgres-{kubectl.namespace}"
    folder = STATE / "volumes" / name
    cluster.on_node(f"mkdir -p {folder} && chmod 777 {folder}")
    common = {"accessModes": ["ReadWriteOnce"], "storageClassName": ""}
    on_node = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}
    kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": common
            | {
                "capacity": {"storage": "1Gi"},
                "local": {"path": str(folder)},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [on_node]}},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "postgres"},
            "spec": common | {"volumeName": name, "resources": {"requests": {"storage": "1Gi"}}},
        },
    )
    try:
        yield {"persistentVolumeClaim": {"claimName": "postgres"}}
    finally:
        kubectl("delete", "deployment", "postgres", "--wait=true", "--cascade=foreground")
        kubectl("delete", "persistentvolumeclaim", "postgres")
        kubectl("delete", "persistentvolume", name)
        cluster.on_node(f"rm -rf {folder}")


@pytest.fixture(scope="session")
def site(cluster: RunningCluster, crd: None, images: list[str]) -> Iterator[Site]:
    assert crd is None
    assert images
    with new_namespace(cluster) as namespace:
        kubectl, helm = (Program(one.path, one.kubeconfig, namespace) for one in (cluster.kubectl, cluster.helm))
        kubectl("label", "namespace", namespace, RESTRICTED)
        words = ("--set", f"namespaces={{{namespace}}}", "--set", "crds.install=false")
        helm("install", "op", CHART, *words)
        with volume(cluster, kubectl) as claim:
            made = Site(cluster, kubectl, start_databases(kubectl, claim))
            try:
                made.sql(TABLES)
                kubectl("rollout", "status", "deployment/op-operator", "--timeout=60s")
                made.clock = Clock.start(made, TICKS)
                yield made
                kubectl("delete", "stripedjobs", "--all", "--timeout=30s")
                kubectl("wait", "--for=delete", "pods", "-l", "striped.dev/job", "--timeout=60s")
            finally:
                made.close()
                helm("uninstall", "op", "--wait")


@pytest.fixture
def clock(site: Site) -> Clock:
    """Return the job with a schedule, which runs since before the first test."""
    assert site.clock is not None
    return site.clock


@pytest.fixture
def job(site: Site, request: pytest.FixtureRequest) -> Iterator[PodJob]:
    """Yield a job that is named after the test, to be applied by it."""
    name = request.node.originalname.removeprefix("test_").replace("_", "-")[:40].strip("-")
    made = site.job(name)
    yield made
    made.delete()
