"""What the operator costs and how quick it is: one StripedJob, then a thousand, on a real API server.

Run by `scripts/bench operator`. It uses the test cluster that is up, or brings a control plane up; no pod runs. The
operator is a process of this machine, all StripedJobs share one embedded Postgres and one Valkey. Its requests are
those that it counts itself, and the renewals of its watches. Every row has the bound that it is to keep.
"""

import json
import os
import secrets
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
from kubernetes import client, config
from tests.cluster_kit.fixtures import Program, await_, kit
from tests.support.operators import CRD, Jobs, Operator

import stripedjob
from stripedjob.local.engines import embedded
from stripedjob_operator.handlers import STREAM_SECONDS

JOBS = 1000
SAMPLES = 20
CLIENTS = 8  # that make and edit StripedJobs at the same time
SETTLE_SECONDS = 15.0  # after everything is reconciled: numbers are still read for the first time
REST_SECONDS = 10.0
PATIENCE_SECONDS = 300.0
GROUP = ("striped.dev", "v1alpha1")
WATCHES = 3
Row = dict[str, Any]


class Api:
    """The API server as the benchmark uses it."""

    def __init__(self, kubeconfig: str, namespace: str) -> None:
        """Log in as administrator."""
        config.load_kube_config(kubeconfig)
        self.objects = client.CustomObjectsApi()
        self.apps = client.AppsV1Api()
        self.namespace = namespace
        self.pool = ThreadPoolExecutor(CLIENTS)

    def create(self, jobs: list[dict[str, Any]]) -> None:
        """Make StripedJobs."""
        create = self.objects.create_namespaced_custom_object
        list(self.pool.map(lambda job: create(*GROUP, self.namespace, "stripedjobs", job), jobs))

    def edit(self, names: list[str], spec: dict[str, Any]) -> None:
        """Edit StripedJobs."""
        patch = self.objects.patch_namespaced_custom_object
        list(self.pool.map(lambda name: patch(*GROUP, self.namespace, "stripedjobs", name, {"spec": spec}), names))

    def jobs(self) -> list[dict[str, Any]]:
        """Return all StripedJobs, as they were a moment ago."""
        listed = self.objects.list_namespaced_custom_object(*GROUP, self.namespace, "stripedjobs", resource_version="0")
        return list(listed["items"])

    def deployments(self) -> list[dict[str, Any]]:
        """Return all Deployments, as they were a moment ago; as plain data, since the client's own takes seconds."""
        listed = self.apps.list_namespaced_deployment
        return list(json.loads(listed(self.namespace, resource_version="0", _preload_content=False).data)["items"])

    def replicas(self, name: str) -> int | None:
        """Return how many workers a StripedJob is to have; None before there is a Deployment."""
        try:
            return int(self.apps.read_namespaced_deployment(f"{name}-worker", self.namespace).spec.replicas)
        except client.ApiException as error:
            if error.status == 404:  # noqa: PLR2004
                return None
            raise

    def scale(self, name: str, replicas: int) -> None:
        """Change a Deployment behind the operator's back."""
        self.apps.patch_namespaced_deployment(f"{name}-worker", self.namespace, {"spec": {"replicas": replicas}})


@contextmanager
def cluster() -> Iterator[str]:
    """Yield the kubeconfig and kubectl of the cluster that is up, or of one that is brought up for this."""
    was_up = kit("status").returncode == 0
    if not was_up:
        started = kit("up", "--level", "control-plane")
        assert started.returncode == 0, started.stderr
    try:
        yield kit("status", "--json").stdout
    finally:
        if not was_up:
            kit("down")


@contextmanager
def namespace(kubectl: Program) -> Iterator[str]:
    """Make a namespace with the StripedJob resource in the cluster, and delete it."""
    name = f"bench-{secrets.token_hex(3)}"
    kubectl("create", "namespace", name)
    try:
        kubectl("apply", "--server-side", "--force-conflicts", "-f", CRD)
        kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", CRD)
        yield name
    finally:
        kubectl("delete", "namespace", name, "--wait=true", seconds=PATIENCE_SECONDS)


def until(what: str, is_so: Callable[[], bool], poll_seconds: float) -> float:
    """Wait until something is so; returns for how many seconds."""
    began = time.monotonic()
    while not is_so():
        if time.monotonic() - began > PATIENCE_SECONDS:
            raise TimeoutError(f"{what}: not within {PATIENCE_SECONDS} s")
        time.sleep(poll_seconds)
    return time.monotonic() - began


def row(what: str, value: float, bound: float, unit: str) -> Row:
    """Return one result."""
    return {"what": what, "value": round(value, 3), "bound": bound, "unit": unit, "holds": value < bound}


def of_one(api: Api, jobs: Jobs, postgres_url: str) -> Iterator[Row]:
    """Measure how soon the operator follows, with few StripedJobs."""
    made = []
    for number in range(SAMPLES):
        name = f"one-{number}"
        api.create([jobs.make(name, scaling={"scaleDownDelaySeconds": 0})])
        made.append(until("the Deployment", lambda name=name: api.replicas(name) is not None, 0.005))
    yield row("StripedJob to Deployment, median", statistics.median(made), 1, "s")
    yield row("StripedJob to Deployment, slowest", max(made), 1, "s")
    undone, scaled = [], []
    for number in range(SAMPLES):
        name = f"one-{number}"
        until(
            "it is ready",
            lambda name=name: _is_settled(
                api.objects.get_namespaced_custom_object(*GROUP, api.namespace, "stripedjobs", name)
            ),
            0.05,
        )
        api.scale(name, 2)
        undone.append(until("the edit is undone", lambda name=name: api.replicas(name) == 0, 0.01))
        with psycopg.connect(postgres_url) as conn:
            stripedjob.enqueue(conn, name, stripedjob.NewUnit(resource="r"), namespace=api.namespace)
        scaled.append(until("a worker", lambda name=name: api.replicas(name) == 1, 0.01))
    yield row("edit of a Deployment to undone, slowest", max(undone), 10, "s")
    yield row("backlog to scaled out, slowest", max(scaled), 5, "s")


def _is_settled(job: dict[str, Any]) -> bool:
    status = job.get("status", {})
    ready = next((one for one in status.get("conditions", []) if one["type"] == "Ready"), {})
    generation = job["metadata"]["generation"]
    return status.get("observedGeneration") == generation and ready.get("reason") in {"Idle", "WorkersStarting"}


def of_many(api: Api, jobs: Jobs, operator: Operator) -> Iterator[Row]:
    """Measure a start with many StripedJobs, rest, and a burst of edits."""
    names = [f"job-{number}" for number in range(JOBS)]
    api.create([jobs.make(name) for name in names])
    began = time.monotonic()
    operator.start()
    until("all are reconciled", lambda: all(map(_is_settled, api.jobs())), 0.5)
    yield row("start to all reconciled", time.monotonic() - began, 60, "s")
    time.sleep(SETTLE_SECONDS)
    assert operator.process is not None
    process = psutil.Process(operator.process.pid)
    yield from at_rest(operator, process)
    began, requests = time.monotonic(), _requests(operator)
    api.edit(names, {"drainSeconds": 45})
    # To list everything costs the API server as much as many edits: not before it can be so.
    until("two writes for each edit", lambda: _requests(operator) - requests >= 2 * JOBS, 0.1)
    until("all edits are followed", lambda: _are_followed(api), 0.5)
    yield row(f"burst of {JOBS} edits to all followed", time.monotonic() - began, 20, "s")
    memory = process.memory_info().rss / 1e6
    yield row("memory after the burst", memory, 100 + 20 * JOBS / 1000, "MB")
    restart = operator_restarted(operator)
    until("all are reconciled", lambda: _lines(operator, "reconciles_total") >= JOBS, 0.2)
    yield row("second start to all looked at", time.monotonic() - restart, 60, "s")


def operator_restarted(operator: Operator) -> float:
    """Stop it and start it again; returns when."""
    assert operator.stop() == 0
    began = time.monotonic()
    operator.start()
    return began


def at_rest(operator: Operator, process: psutil.Process) -> Iterator[Row]:
    """Measure a while in which nothing happens."""
    requests, cpu = _requests(operator), sum(process.cpu_times()[:2])
    began = time.monotonic()
    time.sleep(REST_SECONDS)
    seconds = time.monotonic() - began
    a_second = (_requests(operator) - requests) / seconds + WATCHES / STREAM_SECONDS
    yield row("API requests a second at rest", a_second, 20, "1/s")
    yield row("cores at rest", (sum(process.cpu_times()[:2]) - cpu) / seconds, 0.2, "cores")
    yield row("memory at rest", process.memory_info().rss / 1e6, 100 + 20 * JOBS / 1000, "MB")


def _are_followed(api: Api) -> bool:
    pods = [one["spec"]["template"]["spec"] for one in api.deployments()]
    return {pod["terminationGracePeriodSeconds"] for pod in pods} == {60} and all(map(_is_settled, api.jobs()))


def _requests(operator: Operator) -> float:
    return _lines(operator, "api_requests_total")


def _lines(operator: Operator, name: str) -> float:
    try:
        lines = operator.get("/metrics").splitlines()
    except OSError:
        return 0
    return sum(float(line.split()[-1]) for line in lines if line.startswith(f"stripedjob_operator_{name}"))


def main(_path: Path, _options: object) -> Iterator[Row]:
    """Measure. What else the machine does comes first: all of it runs on the same cores."""
    yield {"what": "load average before", "value": round(os.getloadavg()[0], 2), "unit": "processes"}
    with ExitStack() as stack:
        status = json.loads(stack.enter_context(cluster()))
        administrator = Program(status["kubectl"], status["kubeconfig"])
        name = stack.enter_context(namespace(administrator))
        engines = stack.enter_context(embedded())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        api = Api(status["kubeconfig"], name)
        jobs = Jobs(Program(status["kubectl"], status["kubeconfig"], name))
        jobs.secret_of(postgres=engines.postgres_url, redis=engines.valkey_url)
        operator = Operator(status["kubeconfig"], name, folder / "operator.log")
        stack.callback(operator.stop)
        operator.start()
        await_("it leads", lambda: "leading" in operator.log.read_text())
        yield from of_one(api, jobs, engines.postgres_url)
        operator.stop()
        administrator("delete", "stripedjobs", "--all", "--namespace", name)
        yield from of_many(api, jobs, operator)
