"""The operator as a process on this machine, with engines on this machine, and StripedJobs to give it."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster_kit.fixtures import Program, RunningCluster, await_
from tests.cluster_kit.home import ROOT

CRD = ROOT / "deploy" / "crds" / "stripedjobs.yaml"
LOG_CHARS = 8000
START_SECONDS_MAX = 60  # on a machine that has other things to do as well
NOWHERE = {"spec": {"nodeSelector": {"striped.dev/test": "nowhere"}}}  # pods that no node takes


@dataclass
class Operator:
    """One operator process, for one namespace."""

    kubeconfig: str
    namespace: str
    log: Path
    args: tuple[str, ...] = ()
    program: str = "stripedjob_operator"
    port: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> Operator:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        words = ["--namespaces", self.namespace, "--lease-namespace", self.namespace, "--port", str(self.port)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.program, *words, *self.args],
                cwd=ROOT,
                env=os.environ | {"KUBECONFIG": self.kubeconfig},
                stderr=log,
            )
        return self

    def send(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process is None:
            return 0
        with suppress(ProcessLookupError):
            self.process.send_signal(number)
        try:
            code = self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self.process = None
            sys.stderr.write(self.log.read_text()[-LOG_CHARS:])  # pytest shows it where the test fails
        return code

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as response:
            return str(response.read().decode())

    def records(self) -> list[dict[str, Any]]:
        """Return what it has logged."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]


@dataclass(frozen=True)
class Jobs:
    """StripedJobs in the test's namespace, with a Secret of the engines' URLs."""

    kubectl: Program
    secret: str = "engines"  # noqa: S105 - a name

    def secret_of(self, **values: str) -> None:
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        self.kubectl.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": self.secret}, "data": data})

    def make(self, name: str = "job", **spec: Any) -> dict[str, Any]:
        reference = {"name": self.secret}
        return {
            "apiVersion": "striped.dev/v1alpha1",
            "kind": "StripedJob",
            "metadata": {"name": name},
            "spec": {
                "scheduleLimit": 3,
                "handler": {"python": "os:getpid"},
                "pool": {"secretRef": reference | {"key": "postgres"}},
                "lock": {"backend": "Redis", "secretRef": reference | {"key": "redis"}},
                "template": NOWHERE,
            }
            | spec,
        }

    def apply(self, name: str = "job", **spec: Any) -> None:
        self.kubectl.apply(self.make(name, **spec))

    def status(self, name: str = "job") -> dict[str, Any]:
        return dict(self.kubectl.json("get", "stripedjob", name).get("status", {}))

    def condition(self, kind: str, name: str = "job") -> dict[str, Any]:
        found = {one["type"]: one for one in self.status(name).get("conditions", [])}
        return dict(found.get(kind, {}))

    def until(self, kind: str, reason: str, name: str = "job", seconds: float = 30) -> dict[str, Any]:
        """Wait for a condition to have this reason."""
        condition: dict[str, Any] = {}

        def is_so() -> bool:
            condition.update(self.condition(kind, name))
            return condition.get("reason") == reason

        try:
            await_(f"{kind} is {reason}", is_so, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; the status is {yaml.safe_dump(self.status(name))}") from None
        return condition

    def deployment(self, name: str = "job") -> dict[str, Any] | None:
        found = self.kubectl.done("get", "deployment", f"{name}-worker", "-o", "json")
        return json.loads(found.stdout) if found.returncode == 0 else None

    def replicas(self, name: str = "job") -> int | None:
        found = self.deployment(name)
        return found["spec"]["replicas"] if found else None

    def events(self) -> list[tuple[str, str]]:
        return [(one["reason"], one["message"]) for one in self.kubectl.json("get", "events")["items"]]

    def told(self, *reasons: str, times: int = 1) -> None:
        """Wait until there are so many Events of each of these: they come a moment after the status."""

        def are_there() -> bool:
            found = [reason for reason, _ in self.events()]
            return all(found.count(one) >= times for one in reasons)

        await_(f"Events {', '.join(reasons)}", are_there)


@pytest.fixture(scope="session")
def crd(cluster: RunningCluster) -> None:
    """Have the StripedJob resource in the cluster."""
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", CRD)
    established = ("wait", "--for=condition=Established", "--timeout=30s", "-f", CRD)  # fails where there are none yet
    await_("the CRD is established", lambda: cluster.kubectl.done(*established).returncode == 0)


@pytest.fixture
def operator(
    cluster: RunningCluster,
    crd: None,  # noqa: ARG001
    namespace: str,
    tmp_path: Path,
) -> Iterator[Operator]:
    """Start an operator that looks after the test's namespace."""
    one = Operator(cluster.kubectl.kubeconfig, namespace, tmp_path / "operator.log")
    try:
        one.start()
        await_("it leads", lambda: "leading" in one.log.read_text(), START_SECONDS_MAX)
        yield one
    finally:
        one.stop()


@pytest.fixture
def jobs(
    crd: None,  # noqa: ARG001
    kubectl: Program,
    fresh_database: str,
    fresh_valkey: str,
) -> Jobs:
    """Return what makes StripedJobs in the test's namespace, whose engines run on this machine."""
    made = Jobs(kubectl)
    made.secret_of(postgres=fresh_database, redis=fresh_valkey)
    return made
