"""Jobs whose workers are pods, with their databases in the cluster too, and what these record of the work."""

from __future__ import annotations

import datetime as dt
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg
from tests.cluster_kit.fixtures import PoolInCluster, Program, RunningCluster, await_
from tests.cluster_kit.images import DOCKER
from tests.support.operators import Jobs

from stripedjob import NewUnit, enqueue_many

PATIENCE_SECONDS = 90  # for a database that is away on purpose
LEASE_SECONDS = 5
TABLES = """
create sequence starts;
create table effect (
    unit bigint, resource text, fence bigint, pod text, began timestamptz, ended timestamptz,
    primary key (resource, unit))"""  # ids are those of a pool, and there may be two
OF_JOB = "(select * from effect where resource like %s)"
CALLS = "(select distinct pod, began, ended from effect where resource like %s)"  # of the handler
OVERLAPS = f"""
select count(*) from {OF_JOB} a join effect b on a.resource = b.resource and a.fence <> b.fence
    and a.began < b.ended and b.began < a.ended"""  # noqa: S608 - a constant
PEAK = f"""
select coalesce(max(working), 0) from (
    select sum(step) over (order by at, step) working from (
        select began at, 1 step from {CALLS} a where began >= %s
        union all select ended, -1 from {CALLS} b where began >= %s
    ) steps
) x"""  # noqa: S608 - a constant
HANDLERS: dict[str, Any] = {
    "containers": [
        {
            "name": "worker",
            "env": [{"name": "STRIPEDJOB_PATH", "value": "/handlers"}],
            "volumeMounts": [{"name": "handlers", "mountPath": "/handlers"}],
        }
    ],
    "volumes": [{"name": "handlers", "configMap": {"name": "handlers"}}],
}


def template(**worker: Any) -> dict[str, Any]:
    """Return spec.template with the tests' handlers, and more for the worker's container."""
    container = HANDLERS["containers"][0] | worker
    return {"spec": HANDLERS | {"containers": [container]}}


@dataclass
class Forward:
    """A port of this machine that leads to a Service of one pod, also when that is another pod than before."""

    kubectl: Program
    target: str
    port: int
    _process: subprocess.Popen[str] | None = None
    _here: int = 0

    def here(self) -> int:
        """Return the port; raises OSError where there is no pod now."""
        if self._process is not None and self._process.poll() is None:
            return self._here
        self.close()  # what has ended
        self._process = subprocess.Popen(
            self.kubectl.command("port-forward", self.target, f":{self.port}"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.startswith("Forwarding from 127.0.0.1:"):
            self.close()
            raise OSError(line)
        self._here = int(line.split(":")[1].split(" ")[0])
        return self._here

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


@dataclass
class Site:
    """A namespace with an operator, databases and the handlers' ConfigMap."""

    cluster: RunningCluster
    kubectl: Program
    databases: PoolInCluster
    clock: Clock | None = None
    _forward: Forward = field(init=False)
    _conn: psycopg.Connection | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._forward = Forward(self.kubectl, "service/postgres", 5432)
        handlers = {"pod_handlers.py": (DOCKER / "handlers" / "pod_handlers.py").read_text()}
        self.kubectl.apply(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "handlers"}, "data": handlers}
        )

    def connect(self) -> psycopg.Connection:
        """Connect to the pool's database, waiting for one that is away."""
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return psycopg.connect(self.url(), autocommit=True, connect_timeout=5)
            except (psycopg.OperationalError, OSError):
                self._forward.close()
                if time.monotonic() > end:
                    raise
                time.sleep(0.5)

    def url(self) -> str:
        """Return the pool's URL as this machine can use it now; raises OSError where there is no pod now."""
        return self.databases.postgres.replace("@postgres:5432", f"@127.0.0.1:{self._forward.here()}")

    def sql(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        """Ask the pool's database; asks again where it goes away meanwhile."""
        while True:
            if self._conn is None:
                self._conn = self.connect()
            try:
                cursor = self._conn.execute(query.encode(), values)
                return cursor.fetchall() if cursor.description else []
            except psycopg.OperationalError:
                with suppress(psycopg.Error):
                    self._conn.close()
                self._conn = None

    def one(self, query: str, values: Sequence[Any] = ()) -> Any:
        return self.sql(query, values)[0][0]

    def close(self) -> None:
        if self._conn is not None:
            self._conn.close()
        self._forward.close()

    def job(self, name: str, **spec: Any) -> PodJob:
        return PodJob(self, name, {"template": template(), "handler": WORK, "lock": self.lock()} | spec)

    def lock(self) -> dict[str, Any]:
        return {"secretRef": {"name": self.databases.secret, "key": "redis"}, "leaseSeconds": LEASE_SECONDS}

    def operators(self) -> list[str]:
        """Return the operator's pods, the leader first."""
        pods = self.kubectl("get", "pods", "-l", "app.kubernetes.io/component=operator", "-o", "name").split()
        leader = self.kubectl("get", "lease", "op-operator", "-o", "jsonpath={.spec.holderIdentity}")
        return sorted(pods, key=lambda pod: pod != f"pod/{leader}")


LINES_SHOWN = 30
WORK = {"python": "pod_handlers:work", "transaction": True}
WORK_ALL = {"python": "pod_handlers:work_all", "transaction": True, "per": "Resource"}


@dataclass
class PodJob:
    """A StripedJob of this site, with a way to each thing that is known of it."""

    site: Site
    name: str
    spec: dict[str, Any]
    enqueued: int = 0

    @property
    def jobs(self) -> Jobs:
        return Jobs(self.site.kubectl, self.site.databases.secret)

    def apply(self, **changes: Any) -> None:
        self.spec |= changes
        self.jobs.apply(self.name, **self.spec)

    def wait(self, what: str, seconds: float, of: str = "stripedjob") -> float:
        """Wait for a condition or `{path}=value` of it, or of its Deployment; returns how long that took."""
        began = time.monotonic()
        what = f"jsonpath={what}" if what.startswith("{") else f"condition={what}"
        name = self.name if of == "stripedjob" else f"{self.name}-worker"
        try:
            self.site.kubectl("wait", f"{of}/{name}", f"--for={what}", f"--timeout={seconds}s")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.described()}") from None
        return time.monotonic() - began

    def described(self) -> str:
        """Say what the cluster knows of it: what is in its way, where something is awaited in vain."""
        kubectl = self.site.kubectl
        one = kubectl("get", "stripedjob", self.name, "-o", "jsonpath={.status}")
        pods = kubectl("get", "pods", "-l", f"striped.dev/job={self.name}", "-o", "wide")
        events = kubectl("get", "events", "--sort-by=.lastTimestamp").splitlines()[-LINES_SHOWN:]
        logs = [kubectl.done("logs", pod, f"--tail={LINES_SHOWN}").stdout for pod in self.ready()]
        return "\n".join([one, pods, *events, *logs])

    def scaled(self, workers: int, seconds: float) -> float:
        """Wait until the Deployment is to have so many pods; returns how long that took."""
        return self.wait(f"{{.spec.replicas}}={workers}", seconds, "deployment")

    def enqueue(self, units: int, resources: int, payload: Any, prefix: str = "r") -> None:
        new = [NewUnit(resource=f"{self.name}/{prefix}{n % resources:04}", payload=payload) for n in range(units)]
        with self.site.connect() as conn:
            enqueue_many(conn, self.name, new, namespace=self.site.kubectl.namespace)
        self.enqueued += units

    def done(self, prefix: str = "") -> int:
        return int(self.site.one("select count(*) from effect where resource like %s", [f"{self.name}/{prefix}%"]))

    def numbers(self) -> dict[str, int]:
        """Return the job's row of the pool's view."""
        query = "select row_to_json(s) from striped.job_status s where namespace = %s and job_type = %s"
        return dict(self.site.one(query, [self.site.kubectl.namespace, self.name]))

    def pods(self, *, ending: bool = False) -> list[dict[str, Any]]:
        found = self.site.kubectl.json("get", "pods", "-l", f"striped.dev/job={self.name}")["items"]
        return [pod for pod in found if ending or "deletionTimestamp" not in pod["metadata"]]

    def ready(self) -> list[str]:
        """Return the names of the pods that are ready."""
        return [
            pod["metadata"]["name"]
            for pod in self.pods()
            if any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", []))
        ]

    def peak(self, since: Any = "-infinity") -> int:
        """Count how many handlers ran at the same time, at most, of those that began since then."""
        like = f"{self.name}/%"
        return int(self.site.one(PEAK, [like, since, like, since]))

    def check(self, seconds: float) -> None:
        """Check that every unit takes effect, once, and that no two intervals of a resource overlap."""
        try:
            await_(f"{self.enqueued} effects", lambda: self.done() >= self.enqueued, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.numbers()}\n{self.described()}") from None
        assert self.done() == self.enqueued
        assert self.site.one(OVERLAPS, [f"{self.name}/%"]) == 0

    def delete(self) -> None:
        self.site.kubectl("delete", "stripedjob", self.name, "--ignore-not-found", "--wait=false")


@dataclass(frozen=True)
class Clock:
    """A job with a schedule of every minute, and since when it has it."""

    job: PodJob
    began: dt.datetime

    @staticmethod
    def start(site: Site, ticks: int, name: str = "clock", **schedule: str) -> Clock:
        """Have `ticks` units enqueued every minute from now on, or when `schedule` says."""
        sql = f"select '{name}/' || n, to_json(0) from generate_series(1, {ticks}) n"  # noqa: S608 - a test's
        job = site.job(name, schedule={"cron": "* * * * *", "enqueue": {"sql": sql}} | schedule)
        job.apply()
        job.wait("PoolReachable", 30)
        query = """select max(at) from striped.turn t join striped.job j on j.id = job_id
            where kind = 'schedule' and job_type = %s and at > '-infinity'"""
        return Clock(job, await_("the schedule has begun", lambda: site.one(query, [name]), 30))
