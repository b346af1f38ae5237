"""What is killed in the middle costs time, never a unit: each takes effect once, and no two of a resource overlap."""

from __future__ import annotations

import json
import secrets
import time
import urllib.request
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from tests.cluster_kit.fixtures import await_
from tests.cluster_kit.images import HANDLERS
from tests.support.pods import LEASE_SECONDS, PodJob, Site

if TYPE_CHECKING:
    from tests.support.measured import Measured

WORKERS = 3
UNITS, RESOURCES, UNIT_SECONDS = 900, 90, 0.02  # 6 s of work at the least
CLAIM_SECONDS = 1.5  # in which an idle worker takes what is there
RECOVERED_SECONDS = 60
HAND_OVER_SECONDS = 60
ENDED_SECONDS = 20  # well within the grace period
VANISHED_SECONDS = 30  # until the server knows that a client has vanished
EACH_PROCESS = """
for process in $(grep -ls -e '{uid}' -e '{slice}' /proc/[0-9]*/cgroup | cut -d/ -f3); do
    {act}
done"""
KILL = "kill -9 $process || true"
CUT_OFF = "nsenter --target $process --net ip link set eth0 down"


@pytest.fixture(scope="module")
def busy(site: Site) -> Iterator[PodJob]:
    """Have workers that are there whatever is to be done."""
    retry = {"maxAttempts": 2, "backoffSeconds": 0}
    job = site.job("busy", scheduleLimit=WORKERS, minWorkers=WORKERS, retry=retry)
    job.apply()
    job.wait(f"{{.status.workers.ready}}={WORKERS}", 60)
    yield job
    job.delete()


def start(job: PodJob, prefix: str) -> None:
    """Have work, and be in the middle of it."""
    job.enqueue(UNITS, RESOURCES, UNIT_SECONDS, prefix)
    await_("work has begun", lambda: job.done(prefix) > UNITS // 10, 60)


def on_node(site: Site, act: str, pod: dict[str, Any]) -> None:
    """Do something to every process of a pod on its node, the one that holds its namespaces too."""
    uid = pod["metadata"]["uid"]
    site.cluster.on_node(EACH_PROCESS.format(uid=uid, slice=uid.replace("-", "_"), act=act))


def starts(site: Site) -> int:
    return int(site.one("select coalesce(pg_sequence_last_value('starts'), 0)"))


@pytest.mark.acceptance("A34")
def test_a_worker_killed_on_the_node(busy: PodJob, measured: Measured) -> None:
    site, crashed = busy.site, busy.numbers()["total_crashed"]
    pod = holder(busy, "killed")
    on_node(site, KILL, pod)
    check_worked_on_again(busy, "killed", measured)
    assert busy.numbers()["total_crashed"] == crashed + 1
    busy.wait(f"{{.status.workers.ready}}={WORKERS}", 60)
    (again,) = [one for one in busy.pods() if one["metadata"]["uid"] == pod["metadata"]["uid"]]
    assert again["status"]["containerStatuses"][0]["restartCount"] == 1


@pytest.mark.acceptance("A34")
def test_a_worker_whose_network_is_gone(busy: PodJob, measured: Measured) -> None:
    """Not a word comes from it, not even the end of a connection: as from a node without power."""
    site, pod = busy.site, holder(busy, "vanished")
    session = await_("its handler's transaction", lambda: site.sql(TRANSACTION), 3)[0][0]
    on_node(site, CUT_OFF, pod)
    check_worked_on_again(busy, "vanished", measured)
    began = time.monotonic()
    await_("its session ends", lambda: not site.one(SESSIONS, [session]), VANISHED_SECONDS)
    measured("its transaction's session ended after that, in", time.monotonic() - began)
    site.kubectl("delete", "pod", pod["metadata"]["name"], "--grace-period=0", "--force")
    busy.wait(f"{{.status.workers.ready}}={WORKERS}", 60)


def holder(busy: PodJob, prefix: str) -> dict[str, Any]:
    """Have a unit that takes a while, and give the pod that works on it."""
    busy.enqueue(1, 1, 3.0, prefix)
    name = await_("it is worked on", lambda: busy.site.sql(HOLDER, [f"{busy.name}/{prefix}%"]))[0][0]
    (pod,) = [one for one in busy.pods() if one["metadata"]["name"] == name]
    return pod


def check_worked_on_again(busy: PodJob, prefix: str, measured: Measured) -> None:
    gone = busy.site.one("select clock_timestamp()")  # it may have renewed its lease until now
    busy.check(30)
    began = busy.site.one(
        "select extract(epoch from began - %s) from effect where resource like %s", [gone, f"{busy.name}/{prefix}%"]
    )
    measured("worked on again after", float(began))
    assert 0 < began < LEASE_SECONDS + CLAIM_SECONDS


HOLDER = """
select w.name from striped.stripe s join striped.worker w on w.id = s.worker_id
where s.resource like %s and s.state = 'leased'"""
TRANSACTION = """
select pid from pg_stat_activity where application_name like 'stripedjob %%' and state = 'idle in transaction'"""
SESSIONS = "select count(*) from pg_stat_activity where pid = %s"


@pytest.mark.acceptance("A38")
def test_valkey_flushed_and_its_pod_deleted(busy: PodJob, measured: Measured) -> None:
    kubectl, crashed = busy.site.kubectl, busy.numbers()["total_crashed"]
    start(busy, "valkey")
    kubectl("exec", "deployment/redis", "--", "redis-cli", "flushall")
    kubectl("delete", "pod", "-l", "app=redis", "--wait=false")
    deleted = busy.site.one("select clock_timestamp()")
    busy.enqueue(90, 90, UNIT_SECONDS, "valkey-after")
    busy.check(120)
    longest = busy.site.one(PAUSE, [f"{busy.name}/valkey%", deleted])
    measured("nothing was worked on for", float(longest))
    assert longest < RECOVERED_SECONDS
    assert busy.numbers()["total_crashed"] == crashed
    busy.wait("LockReachable", 60)


PAUSE = """
select extract(epoch from max(pause)) from (
    select began - lag(ended) over (order by ended) pause from effect where resource like %s and ended > %s
) x"""


def test_postgres_killed_and_its_pod_deleted(busy: PodJob) -> None:
    start(busy, "postgres")
    kubectl = busy.site.kubectl
    kubectl.done("exec", "deployment/postgres", "--", "sh", "-c", "kill -QUIT 1")
    before = busy.done()
    await_("work goes on", lambda: busy.done() >= min(before + 50, busy.enqueued), 90)
    kubectl("delete", "pod", "-l", "app=postgres", "--wait=false")
    busy.check(120)
    busy.wait("PoolReachable", 60)
    busy.wait("Ready", 60)


@pytest.mark.acceptance("A48")
def test_the_leading_operator_killed(busy: PodJob, measured: Measured) -> None:
    start(busy, "operator")
    kubectl = busy.site.kubectl
    deployment, pods = busy.jobs.deployment(busy.name), {one["metadata"]["uid"] for one in busy.pods()}
    leader, *_ = busy.site.operators()
    on_node(busy.site, KILL, kubectl.json("get", leader))
    kubectl("delete", leader, "--grace-period=0", "--force")  # the other one takes over, not the same again
    busy.apply(importance=1)
    generation = kubectl("get", "stripedjob", busy.name, "-o", "jsonpath={.metadata.generation}")
    measured("reconciled after", busy.wait(f"{{.status.observedGeneration}}={generation}", HAND_OVER_SECONDS))
    busy.check(60)
    assert {one["metadata"]["uid"] for one in busy.pods()} == pods
    after = busy.jobs.deployment(busy.name)
    assert deployment
    assert after
    assert after["metadata"]["generation"] == deployment["metadata"]["generation"]


OWN_IMAGE = {"name": "worker", "image": HANDLERS.name}
BEHIND_A_SHELL = OWN_IMAGE | {"command": ["sh", "-c", "stripedjob worker; echo ended"]}


@pytest.mark.acceptance("A47")
@pytest.mark.parametrize("container", [BEHIND_A_SHELL, OWN_IMAGE], ids=["to a shell's", "from a shell's"])
def test_a_roll_out_of_an_image_under_load(busy: PodJob, container: dict[str, Any]) -> None:
    busy.check(60)  # nothing is left of what came before
    crashed, begun = busy.numbers()["total_crashed"], starts(busy.site)
    start(busy, f"rolled{len(container)}x{secrets.token_hex(2)}")
    before = {one["metadata"]["uid"] for one in busy.pods()}
    new = {"env": [{"name": "ROLL_OUT", "value": secrets.token_hex(4)}]}  # also where this test runs once more
    busy.apply(template={"spec": {"containers": [container | new]}})
    busy.wait("Ready", 90)  # true to its word: not while one of the old ones is there
    assert not before & {one["metadata"]["uid"] for one in busy.pods()}
    assert {one["spec"]["containers"][0]["image"] for one in busy.pods()} == {HANDLERS.name}
    busy.check(60)
    assert busy.numbers()["total_crashed"] == crashed
    assert starts(busy.site) - begun == UNITS


@pytest.mark.acceptance("A49")
def test_logs_and_metrics_say_what_happened(busy: PodJob) -> None:
    kubectl = busy.site.kubectl
    busy.enqueue(1, 1, "raise", "broken")
    busy.enqueued -= 1  # it has no effect
    await_("it is dead", lambda: busy.numbers()["dead"] == 1, 30)
    busy.wait("UnitsDead", 60)
    pods = busy.ready()
    records = [json.loads(line) for pod in pods for line in kubectl("logs", pod).splitlines()]
    assert all({"event", "level", "timestamp"} <= record.keys() for record in records)
    (dead,) = [record for record in records if record["event"] == "unit dead"]
    job = f"{kubectl.namespace}/{busy.name}"
    assert (dead["job"], dead["resource"], dead["attempts"]) == (job, f"{busy.name}/broken0000", 2)
    assert isinstance(dead["unit"], int)
    assert "broken" in dead["reason"]
    metrics = [scrape(busy.site, f"pod/{pod}") for pod in pods]
    for name in ("leases", "lock_tries", "lock_refusals", "stale"):
        assert all(f'stripedjob_{name}_total{{job_type="{job}"}}' in text for text in metrics)
    assert any(f'stripedjob_units_total{{job_type="{job}",outcome="dead"}} 1.0' in text for text in metrics)
    of_operators = [scrape(busy.site, one) for one in busy.site.operators()]
    assert any("stripedjob_operator_reconciles_total" in text for text in of_operators)
    for record in (json.loads(line) for one in busy.site.operators() for line in kubectl("logs", one).splitlines()):
        assert {"event", "level", "timestamp"} <= record.keys()


def scrape(site: Site, pod: str) -> str:
    with site.kubectl.forwarded(pod, 8080) as port, urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
        return str(page.read().decode())


@pytest.mark.parametrize("of", ["a worker", "an operator"])
def test_what_is_told_to_end_while_it_starts_ends(busy: PodJob, of: str) -> None:
    site, kubectl, crashed = busy.site, busy.site.kubectl, busy.numbers()["total_crashed"]

    of_it = f"striped.dev/job={busy.name}" if of == "a worker" else "app.kubernetes.io/component=operator"

    def pods() -> list[dict[str, Any]]:
        found = kubectl.json("get", "pods", "-l", of_it)["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    last = f"pod/{busy.ready()[-1]}" if of == "a worker" else site.operators()[-1]  # not the leader
    kubectl("delete", last, "--wait=false")  # another one comes at once
    started = "{.status.containerStatuses[0].state.running}"
    (new,) = await_("a new one", lambda: [pod for pod in pods() if not is_ready(pod)], 30)
    name = new["metadata"]["name"]
    await_("it has begun", lambda: kubectl("get", "pod", name, "-o", f"jsonpath={started}"), 30)
    kubectl("delete", "pod", name, "--wait=false")
    kubectl("wait", "--for=delete", f"pod/{name}", f"--timeout={ENDED_SECONDS}s")
    assert busy.numbers()["total_crashed"] == crashed


def is_ready(pod: dict[str, Any]) -> bool:
    return any(one.get("ready") for one in pod["status"].get("containerStatuses", []))
