"""A user's first days: install, apply, see it drain; upgrade in the middle of the work; uninstall."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.cluster_kit.fixtures import Program, RunningCluster, await_
from tests.cluster_kit.home import ROOT
from tests.cluster_kit.images import POSTGRES, REDIS
from tests.e2e.conftest import CHART, RESTRICTED
from tests.support.operators import Jobs

if TYPE_CHECKING:
    from tests.support.measured import Measured

LISTINGS = ROOT / "examples" / "listings"
EVENTS = 10_000
OWNED = ("--take-ownership", "--force-conflicts")  # other tests have brought the StripedJob resource
CREATED_SECONDS = 60
OURS = "app.kubernetes.io/managed-by=stripedjob-operator"
COLUMNS = "NAME TYPE STRATEGY LOCK WORKERS LIMIT PENDING IN-FLIGHT DEAD READY AGE"


def previous(folder: Path) -> Path:
    """Make the version before this one: its StripedJob has a field and a column less, and there was one operator."""
    chart = folder / "previous"
    shutil.copytree(CHART, chart)
    edit(chart / "Chart.yaml", lambda it: it.update(version="0.0.9"))
    edit(chart / "values.yaml", lambda it: it.update(replicas=1, networkPolicy={"enabled": False}))
    edit(chart / "files" / "stripedjobs.yaml", older)
    return chart


def older(crd: dict[str, Any]) -> None:
    (version,) = crd["spec"]["versions"]
    del version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["networkPolicy"]
    version["additionalPrinterColumns"] = [one for one in version["additionalPrinterColumns"] if one["name"] != "Ready"]


def edit(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = yaml.safe_load(file.read_text())
    change(content)
    file.write_text(yaml.safe_dump(content))


def python(*words: str | Path) -> str:
    done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@dataclass
class Day:
    """A namespace with a release of the chart, and the job of examples/listings."""

    cluster: RunningCluster
    kubectl: Program
    helm: Program
    folder: Path

    @property
    def jobs(self) -> Jobs:
        return Jobs(self.kubectl)

    def helm_(self, verb: str, chart: Path) -> str:
        """Install or upgrade the chart, with databases to try it, and the page of the pool in them."""
        images = (f"databases.postgresImage={POSTGRES.name}", f"databases.redisImage={REDIS.name}")
        page = ("ui.enabled=true", "ui.secret.name=try-databases", "ui.secret.key=postgres")
        words = [word for one in ("databases.enabled=true", *images, *page) for word in ("--set", one)]
        return self.helm(verb, "try", chart, *words, *OWNED, "--wait", "--timeout=120s", seconds=180)

    @contextlib.contextmanager
    def postgres(self) -> Iterator[str]:
        secret = self.kubectl.json("get", "secret", "try-databases")["data"]
        with self.kubectl.forwarded("service/try-postgres", 5432) as port:
            url = base64.b64decode(secret["postgres"]).decode()
            yield f"{url.rpartition('@')[0]}@127.0.0.1:{port}/postgres"

    def job(self) -> dict[str, Any]:
        job: dict[str, Any] = yaml.safe_load((LISTINGS / "stripedjob.yaml").read_text())
        for part, key in (("pool", "postgres"), ("lock", "redis")):
            job["spec"][part]["secretRef"] = {"name": "try-databases", "key": key}
        job["metadata"]["namespace"] = self.kubectl.namespace
        return job

    def pods(self) -> dict[str, int]:
        """Return the workers' pods by uid, with how often each has been restarted."""
        found = self.kubectl.json("get", "pods", "-l", "striped.dev/job=listings")["items"]
        return {
            pod["metadata"]["uid"]: sum(one["restartCount"] for one in pod["status"].get("containerStatuses", []))
            for pod in found
        }

    def enqueue(self, url: str) -> Path:
        """Enqueue the events with the command line, as from anywhere that reaches the database."""
        events, file = self.folder / "events.jsonl", self.folder / "job.yaml"
        events.write_text(python(LISTINGS / "events.py", "--events", str(EVENTS)))
        file.write_text(yaml.safe_dump(self.job()))
        python("-m", "stripedjob", "enqueue", file, "--from", events, "--postgres", url)
        return events


@pytest.fixture
def day(cluster: RunningCluster, images: list[str], kubectl: Program, helm: Program, tmp_path: Path) -> Day:
    assert images
    kubectl("label", "namespace", kubectl.namespace, RESTRICTED)
    kubectl("create", "configmap", "listings", f"--from-file={LISTINGS / 'listings.py'}")
    return Day(cluster, kubectl, helm, tmp_path)


@pytest.mark.acceptance("A01")
@pytest.mark.acceptance("A07")
@pytest.mark.acceptance("A11")
@pytest.mark.acceptance("A49")
def test_install_apply_upgrade_uninstall(day: Day, measured: Measured) -> None:
    notes = day.helm_("install", previous(day.folder))
    assert "kubectl get stripedjobs" in notes
    applied = time.monotonic()
    day.kubectl.apply(day.job())
    await_("the Deployment", lambda: day.jobs.deployment("listings"), CREATED_SECONDS)
    day.kubectl("wait", "--for=condition=Ready", "stripedjob/listings", "--timeout=30s")
    measured("Ready after", time.monotonic() - applied)
    with day.postgres() as url:
        python(LISTINGS / "check.py", "setup", "--postgres", url)
        events = day.enqueue(url)
        enqueued = time.monotonic()
        await_("a worker", lambda: day.jobs.status("listings")["workers"]["working"])
        measured("a worker at work after", time.monotonic() - enqueued)
        upgrade_leaves_the_workers_alone(day)
        await_("it has drained", lambda: left(day) == 0, 120)
        assert ": 0 listings differ" in python(LISTINGS / "check.py", "compare", events, "--postgres", url)
    day.kubectl("wait", "--for=condition=Ready", "stripedjob/listings", "--timeout=30s")
    shown = day.kubectl("get", "stripedjobs").splitlines()
    assert shown[0].split() == COLUMNS.split()
    assert shown[1].split()[:10] == ["listings", "listings", "FIFO", "Redis", "4", "4", "0", "0", "0", "True"]
    assert "Succeeded" in day.helm("test", "try")
    the_page_is_for_those_who_may_see_the_job(day)
    uninstall_leaves_what_is_the_users(day)


def the_page_is_for_those_who_may_see_the_job(day: Day) -> None:
    for name in ("viewer", "nobody"):
        day.kubectl("create", "serviceaccount", name)
    day.kubectl("create", "role", "viewer", "--verb=get", "--resource=stripedjobs.striped.dev")
    day.kubectl("create", "rolebinding", "viewer", "--role=viewer", f"--serviceaccount={day.kubectl.namespace}:viewer")
    tokens = {name: day.kubectl("create", "token", name).strip() for name in ("viewer", "nobody")}
    with day.kubectl.forwarded("service/try-ui", 80) as port:

        def shown(path: str, token: str | None) -> tuple[int, str]:
            bearer = {"Authorization": f"Bearer {token}"} if token else {}
            request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Host": "try-ui"} | bearer)
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - our own forward
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as error:
                return error.code, error.read().decode()

        code, text = shown("/", tokens["viewer"])
        assert code == HTTPStatus.OK, text
        (path,) = re.findall(r'href="(/jobs/[0-9]+)"', text)[:1]
        code, text = shown(path, tokens["viewer"])
        assert (code, "listings" in text) == (HTTPStatus.OK, True), text
        assert "listings" not in shown("/", tokens["nobody"])[1]
        assert shown(path, tokens["nobody"])[0] == HTTPStatus.NOT_FOUND
        assert shown("/", None)[0] == HTTPStatus.UNAUTHORIZED
    the_page_comes_to_the_viewers_machine(day)


def the_page_comes_to_the_viewers_machine(day: Day) -> None:
    command = [sys.executable, "-P", "-c", "from stripedjob.kubectl import main; main()", "ui", "--port=0"]
    env = os.environ | {
        "PATH": f"{Path(day.kubectl.path).parent}:{os.environ['PATH']}",
        "KUBECONFIG": str(day.kubectl.kubeconfig),
    }
    options = ["--token-of=viewer", f"--namespace={day.kubectl.namespace}"]
    with subprocess.Popen([*command, *options], env=env, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.match(r"the page is at (http://127\.0\.0\.1:\d+/);", process.stdout.readline())
            assert found
            with urllib.request.urlopen(found[1], timeout=30) as answer:  # noqa: S310 - our own proxy
                assert "listings" in answer.read().decode()
        finally:
            process.send_signal(signal.SIGINT)
    assert process.returncode == 130


def left(day: Day) -> int:
    pool = day.jobs.status("listings")["pool"]
    return int(pool["pending"] + pool["delayed"])


def upgrade_leaves_the_workers_alone(day: Day) -> None:
    """Upgrade the chart: the StripedJob resource is the new one, there are two operators, and no worker notices."""
    day.kubectl("wait", "stripedjob/listings", "--for=jsonpath={.status.workers.ready}=4", "--timeout=60s")
    pods, job = day.pods(), day.job()
    job["spec"]["networkPolicy"] = True
    refused = day.kubectl.done("apply", "-f", "-", stdin=yaml.safe_dump(job))
    assert 'unknown field "spec.networkPolicy"' in refused.stderr
    assert "READY" not in day.kubectl("get", "stripedjobs")
    day.helm_("upgrade", CHART)
    assert day.kubectl.json("get", "deployment", "try-operator")["status"]["readyReplicas"] == 2
    day.kubectl.apply(job)
    await_("the new field works", lambda: day.kubectl("get", "networkpolicy", "listings-worker", "--ignore-not-found"))
    assert day.pods() == pods
    assert set(pods.values()) == {0}


def uninstall_leaves_what_is_the_users(day: Day) -> None:
    """Uninstall the chart: StripedJobs and workers stay, and a StripedJob can be deleted without an operator."""
    pods = day.pods()
    day.helm("uninstall", "try", "--wait")
    assert day.kubectl("get", "stripedjob", "listings")
    assert day.pods() == pods
    day.kubectl("delete", "stripedjob", "listings", "--timeout=30s")
    day.kubectl("wait", "--for=delete", "pods", "-l", "striped.dev/job", "--timeout=60s")
    assert day.kubectl("get", "deployments,pods,serviceaccounts,pdb,networkpolicies", "-l", OURS, "-o", "name") == ""
    assert day.kubectl("get", "crd", "stripedjobs.striped.dev", "-o", "name")
