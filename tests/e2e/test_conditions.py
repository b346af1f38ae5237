"""What is wrong is said: at `kubectl apply` where the API server can see it, else in a condition that heals."""

from __future__ import annotations

import base64
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.cluster_kit.fixtures import await_
from tests.support.operators import Jobs
from tests.support.pods import WORK, PodJob, Site, template

from stripedjob import NewUnit, enqueue_many

if TYPE_CHECKING:
    from tests.support.measured import Measured

SEEN_SECONDS = 60
HEALED_SECONDS = 60
DELETED_SECONDS = 60
READY_REASON = '{.status.conditions[?(@.type=="Ready")].reason}'
WRONG = {"name": "wrong", "key": "postgres"}


def secret(site: Site, name: str, **values: str) -> None:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    site.kubectl.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data})


def broken_jobs(site: Site) -> dict[str, PodJob]:
    """Return a job for each thing that can be wrong; each would have one worker."""
    password = site.databases.postgres.split(":")[2].split("@")[0]
    secret(site, "wrong", postgres=site.databases.postgres.replace(password, "guessed"), redis="redis://redis:1")
    from_secret = [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "token", "key": "token"}}}]
    path = template()["spec"]["containers"][0]["env"]
    specs = {
        "handler": {"handler": {"python": "pod_handlers:missing"}},
        "image": {"template": template(image="stripedjob.test/nothing:1", imagePullPolicy="Never")},
        "node": {"template": template(resources={"requests": {"memory": "1Ti"}})},
        "env": {"template": template(env=path + from_secret)},
        "secret": {"pool": {"secretRef": {"name": "later", "key": "postgres"}}},
        "password": {"pool": {"secretRef": WRONG}},
        "lock": {"lock": {"secretRef": WRONG | {"key": "redis"}}},
    }
    return {name: site.job(f"broken-{name}", minWorkers=1, **spec) for name, spec in specs.items()}


EXPECTED = {  # the reason of Ready, and what its message must say
    "handler": ("WorkerFails", "module pod_handlers has no missing"),
    "image": ("ErrImageNeverPull", "stripedjob.test/nothing:1"),
    "node": ("Unschedulable", "Insufficient memory"),
    "env": ("CreateContainerConfigError", 'secret "token" not found'),
    "secret": ("SecretNotFound", 'there is no Secret "later"'),
    "password": ("PoolRefused", "password authentication failed"),
    "lock": ("LockUnreachable", "redis:1"),
}


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {  # and what is said of them
    "spec.scheduleLimit": ({"scheduleLimit": -1}, "greater than or equal to 0"),
    "spec.schedule.cron": ({"schedule": {"cron": "soon"}}, "five fields"),
    "spec.lock.backend": ({"lock": {"backend": "Etcd"}}, '"Redis", "Postgres"'),
    "spec.limit": ({"limit": 3}, "unknown field"),
}


@pytest.fixture(scope="module", autouse=True)
def deletion(site: Site) -> Iterator[subprocess.Popen[str]]:
    """Delete a job whose pool is to be cleaned and cannot be reached; that takes its time beside the other tests."""
    secret(site, "doomed", postgres=site.databases.postgres)
    job = site.job("doomed", minWorkers=1, pool={"secretRef": WRONG | {"name": "doomed"}, "deletionPolicy": "Delete"})
    job.apply()
    job.wait("Ready", 60)
    secret(site, "doomed", postgres="postgresql://postgres@redis:1/none")
    # By the new address: the pool may be out of reach for a moment for another reason, and be cleaned then.
    await_(
        "the new URL is seen",
        lambda: "redis:1" in (job.jobs.condition("PoolReachable", job.name) or {}).get("message", ""),
        SEEN_SECONDS,
    )
    command = site.kubectl.command("delete", "stripedjob", job.name, f"--timeout={DELETED_SECONDS}s")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        yield process


@pytest.fixture
def broken(site: Site) -> Iterator[dict[str, PodJob]]:
    jobs = broken_jobs(site)
    yield jobs
    for job in jobs.values():
        job.delete()


def test_what_the_cluster_alone_can_see(site: Site, broken: dict[str, PodJob], measured: Measured) -> None:
    for job in broken.values():
        job.apply()
    end = time.monotonic() + SEEN_SECONDS
    for name, (reason, words) in EXPECTED.items():
        job = broken[name]
        job.wait(f"{READY_REASON}={reason}", end - time.monotonic())
        condition = job.jobs.condition("Ready", job.name)
        assert (condition["status"], words in condition["message"]) == ("False", True), condition
        assert job.jobs.condition("Stalled", job.name)["status"] == "True"
        assert site.kubectl.done("wait", "--for=condition=Ready", f"sj/{job.name}", "--timeout=0s").returncode != 0
    measured("all seen after", SEEN_SECONDS - (end - time.monotonic()))
    job.jobs.told(*{reason for reason, _ in EXPECTED.values()})

    repair(site, broken)
    end = time.monotonic() + HEALED_SECONDS
    for job in broken.values():
        job.wait("Ready", end - time.monotonic())
        assert len(job.ready()) == 1
        assert job.jobs.condition("Stalled", job.name)["status"] == "False"
    measured("all healed after", HEALED_SECONDS - (end - time.monotonic()))


def repair(site: Site, broken: dict[str, PodJob]) -> None:
    """Take away what was wrong, each where it was; the operator is told of nothing."""
    secret(site, "wrong", postgres=site.databases.postgres, redis=site.databases.redis)
    secret(site, "later", postgres=site.databases.postgres)
    secret(site, "token", token="any")  # noqa: S106 - a test's
    broken["handler"].apply(handler=WORK)
    for name in ("image", "node"):
        broken[name].apply(template=template())


@pytest.mark.acceptance("A13")
@pytest.mark.parametrize("field", MISTAKES)
def test_kubectl_apply_names_the_mistake(site: Site, field: str) -> None:
    spec, words = MISTAKES[field]
    mistaken = Jobs(site.kubectl, site.databases.secret).make("mistaken", **spec)
    refused = site.kubectl.done("apply", "-f", "-", stdin=yaml.safe_dump(mistaken))
    assert refused.returncode != 0
    assert field in refused.stderr
    assert words in refused.stderr


@pytest.mark.acceptance("A11")
def test_deletion_does_not_hang_on_a_pool_that_is_away(site: Site, deletion: subprocess.Popen[str]) -> None:
    said, _ = deletion.communicate(timeout=DELETED_SECONDS + 10)
    assert deletion.returncode == 0, said
    site.job("doomed").jobs.told("CleanupFailed")
    site.kubectl("wait", "--for=delete", "pods", "-l", "striped.dev/job=doomed", "--timeout=30s")


@pytest.mark.acceptance("A11")
def test_teardown_drops_the_pool_and_nothing_else(site: Site, tmp_path: Path) -> None:
    job = site.job("torn", pool={"secretRef": {"name": site.databases.secret, "key": "postgres"}, "schema": "torn"})
    job.apply()
    job.wait("PoolReachable", 60)
    with site.connect() as conn:
        enqueue_many(
            conn, "torn", [NewUnit(resource="torn/r", payload=0)], namespace=site.kubectl.namespace, schema="torn"
        )
    await_("its unit is done", job.done, 30)
    tables = site.one("select count(*) from pg_tables where schemaname = 'striped'")
    job.delete()
    site.kubectl("wait", "--for=delete", "pods", "-l", "striped.dev/job=torn", "--timeout=60s")
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(job.jobs.make("torn", **job.spec)))
    command = [sys.executable, "-m", "stripedjob", "teardown", str(file), "--yes", "--postgres", site.url()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "dropped" in done.stdout
    assert site.one("select count(*) from pg_namespace where nspname = 'torn'") == 0
    assert site.one("select count(*) from pg_tables where schemaname = 'striped'") == tables
    assert job.done() == 1, "what the user has is the user's"
