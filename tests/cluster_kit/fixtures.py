"""pytest's fixtures: a cluster for the session, a namespace for a test, and what talks to them.

A cluster that is up is used and left up; else one is brought up and taken down again. Where none is possible, the
test is skipped with the reason, and fails where CI=true.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.cluster_kit.home import ROOT
from tests.cluster_kit.images import POSTGRES, REDIS
from tests.cluster_kit.traces import difference, traces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

UP_SECONDS_MAX = 3600  # with everything to build
WAIT_SECONDS = 60
GONE_SECONDS_MAX = 180
UNAVAILABLE = 69


@dataclass(frozen=True)
class Program:
    """kubectl or helm, logged in as administrator; in one namespace where one is given."""

    path: str
    kubeconfig: str
    namespace: str = ""

    def command(self, *words: str | Path) -> list[str]:
        flag = ["--namespace", self.namespace] if self.namespace else []
        return [self.path, "--kubeconfig", self.kubeconfig, *flag, *map(str, words)]

    def done(
        self, *words: str | Path, stdin: str | None = None, seconds: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end, whatever that is."""
        return subprocess.run(
            self.command(*words), input=stdin, capture_output=True, text=True, timeout=seconds, check=False
        )

    def __call__(self, *words: str | Path, stdin: str | None = None, seconds: float = 120) -> str:
        """Run it, and fail the test when it fails."""
        done = self.done(*words, stdin=stdin, seconds=seconds)
        assert done.returncode == 0, f"{' '.join(map(str, words))}\n{done.stderr}{done.stdout}"
        return done.stdout

    def json(self, *words: str | Path) -> Any:
        return json.loads(self(*words, "-o", "json"))

    def apply(self, *objects: dict[str, Any]) -> str:
        return self("apply", "-f", "-", stdin=yaml.safe_dump_all(objects))

    @contextlib.contextmanager
    def forwarded(self, target: str, port: int) -> Iterator[int]:
        """Yield a port of this machine's loopback that leads to `target`'s."""
        with subprocess.Popen(
            self.command("port-forward", target, f":{port}"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                assert line.startswith("Forwarding from 127.0.0.1:"), line
                yield int(line.split(":")[1].split(" ")[0])
            finally:
                process.terminate()


@dataclass(frozen=True)
class RunningCluster:
    """A cluster that is up."""

    provider: str
    level: str
    kubectl: Program
    helm: Program
    leaving: set[str] = field(default_factory=set, compare=False)  # namespaces that were deleted

    def await_gone(self) -> None:
        """Wait until the namespaces that were deleted have gone with all that was in them, which takes 5 s or more.

        What is left after that is told once: tests that come later need not wait for it again.
        """

        def left() -> set[str]:
            return self.leaving.intersection(self.kubectl("get", "namespaces", "-o", "name").split())

        self._release()
        try:
            await_("deleted namespaces have gone", lambda: not left(), GONE_SECONDS_MAX)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.kubectl.done('get', *left(), '-o', 'yaml').stdout}") from None
        finally:
            self.leaving.clear()

    def _release(self) -> None:
        """Let go the StripedJobs of deleted namespaces: where a test has failed, their operator may have ended."""
        found = self.kubectl.done("get", "stripedjobs", "--all-namespaces", "-o", "json")
        for job in json.loads(found.stdout)["items"] if found.returncode == 0 else []:
            name, namespace = job["metadata"]["name"], job["metadata"]["namespace"]
            if job["metadata"].get("finalizers") and f"namespace/{namespace}" in self.leaving:
                no_more = json.dumps({"metadata": {"finalizers": None}})
                self.kubectl.done("patch", "stripedjob", name, "-n", namespace, "--type=merge", "-p", no_more)

    def on_node(self, script: str) -> str:
        """Run a shell script as root on the node: a container of kind's, or this machine."""
        node = self.nodes()[-1]
        command = ["docker", "exec", node, "sh", "-ec", script] if self.provider == "kind" else ["sh", "-ec", script]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def nodes(self) -> list[str]:
        """Return the names of the nodes, those that take pods last."""
        found = self.kubectl.json("get", "nodes")["items"]
        return [one["metadata"]["name"] for one in sorted(found, key=lambda one: "taints" not in one["spec"])]


@dataclass(frozen=True)
class PoolInCluster:
    """Postgres and Redis in a namespace. URLs are those of pods; the Secret has them under these names."""

    postgres: str
    redis: str
    secret: str


def kit(*words: str) -> subprocess.CompletedProcess[str]:
    """Run one of scripts/cluster's commands."""
    return subprocess.run(
        [sys.executable, "-m", "tests.cluster_kit", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=UP_SECONDS_MAX,
        check=False,
    )


def unavailable(reason: str) -> None:
    """Skip the test, or fail where a tier may not be left out."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def cluster() -> Iterator[RunningCluster]:
    was_up = kit("status").returncode == 0
    if not was_up:
        down = kit("down")
        assert down.returncode == 0, f"the rest of a cluster that was killed cannot be removed\n{down.stderr}"
    before = {} if was_up else traces()
    started = kit("up")
    if started.returncode == UNAVAILABLE:
        unavailable(started.stderr)
    assert started.returncode == 0, f"the cluster does not come up\n{started.stderr}"
    try:
        status = json.loads(kit("status", "--json").stdout)
        kubectl, helm = (Program(status[name], status["kubeconfig"]) for name in ("kubectl", "helm"))
        made = RunningCluster(status["provider"], status["level"], kubectl, helm)
        yield made
        made.await_gone()
    finally:
        if not was_up:
            down = kit("down")
            assert down.returncode == 0, down.stderr
            assert difference(before, traces()) == [], "the cluster has changed this machine"


@pytest.fixture(scope="session")
def node(cluster: RunningCluster) -> RunningCluster:
    """Return a cluster that has a node."""
    if cluster.level != "node":
        unavailable(f"{cluster.provider} gives an API server alone here; a node needs root on Debian, or kind")
    return cluster


@pytest.fixture(scope="session")
def images(node: RunningCluster) -> list[str]:
    """Return the names of the images, which the node has."""
    assert node.level == "node"
    made = kit("images")
    assert made.returncode == 0, f"the images do not build\n{made.stderr}"
    return made.stdout.split()


@contextlib.contextmanager
def new_namespace(cluster: RunningCluster) -> Iterator[str]:
    """Have a namespace, which is deleted afterwards; `await_gone` waits for that."""
    name = f"test-{secrets.token_hex(3)}"
    cluster.kubectl("create", "namespace", name)
    try:
        yield name
    finally:
        cluster.leaving.add(f"namespace/{name}")
        cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def namespace(cluster: RunningCluster) -> Iterator[str]:
    with new_namespace(cluster) as name:
        yield name


@pytest.fixture
def kubectl(cluster: RunningCluster, namespace: str) -> Program:
    """Return kubectl in the test's namespace."""
    return Program(cluster.kubectl.path, cluster.kubectl.kubeconfig, namespace)


@pytest.fixture
def helm(cluster: RunningCluster, namespace: str) -> Program:
    """Return helm in the test's namespace."""
    return Program(cluster.helm.path, cluster.helm.kubeconfig, namespace)


# Of what pods get on a busy machine, one that asks for nothing gets next to nothing: workers at their start would keep
# their own database from answering.
DATABASE_REQUESTS = {"cpu": "250m", "memory": "64Mi"}


def database(
    name: str,
    image: str,
    *,
    port: int,
    data: str,
    ready: Sequence[str],
    env: dict[str, str],
    volume: dict[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Describe a database of one pod behind a Service of its name; its data goes with the pod, without a `volume`."""
    labels = {"app": name}
    container = {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "env": [{"name": key, "value": value} for key, value in env.items()],
        "ports": [{"containerPort": port}],
        "resources": {"requests": DATABASE_REQUESTS},
        "readinessProbe": {"exec": {"command": list(ready)}, "periodSeconds": 1, "timeoutSeconds": 5},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "data", "mountPath": data},
            {"name": "data", "mountPath": "/tmp", "subPath": "tmp"},
        ],
    }
    pod = {
        "containers": [container],
        "terminationGracePeriodSeconds": 5,
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 999,
            "runAsGroup": 999,
            "fsGroup": 999,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumes": [{"name": "data"} | (volume or {"emptyDir": {}})],
    }
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {
                "replicas": 1,
                "strategy": {"type": "Recreate"},
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"selector": labels, "ports": [{"port": port}]},
        },
    ]


def start_databases(kubectl: Program, volume: dict[str, Any] | None = None) -> PoolInCluster:
    """Start Postgres, with its data in `volume`, and Redis, and wait until they are ready."""
    password = secrets.token_hex(8)
    urls = {"postgres": f"postgresql://postgres:{password}@postgres:5432/postgres", "redis": "redis://redis:6379/0"}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "databases"},
        "data": {key: base64.b64encode(url.encode()).decode() for key, url in urls.items()},
    }
    postgres = database(
        "postgres",
        POSTGRES.name,
        port=5432,
        data="/var/lib/postgresql",
        ready=["pg_isready", "-h", "127.0.0.1", "-U", "postgres"],
        env={"POSTGRES_PASSWORD": password, "PGDATA": "/var/lib/postgresql/data"},
        volume=volume,
    )
    redis = database("redis", REDIS.name, port=6379, data="/data", ready=["redis-cli", "ping"], env={})
    kubectl.apply(secret, *postgres, *redis)
    for name in ("postgres", "redis"):
        kubectl("rollout", "status", f"deployment/{name}", f"--timeout={WAIT_SECONDS}s")
    return PoolInCluster(urls["postgres"], urls["redis"], "databases")


def await_(what: str, is_so: Callable[[], Any], seconds: float = WAIT_SECONDS) -> Any:
    """Wait until `is_so` gives something true, and give that."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = is_so()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {seconds} s")
