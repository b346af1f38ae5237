"""Whole processes, each with the database role that it needs: nobody but the pool's owner has a right on a table."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql
from tests.support.rights import as_role, granted, new_role
from tests.support.runs import OVERLAPS, Job, await_, stripedjob

from stripedjob.pool.client.owner import OwnerPool
from stripedjob.settings import job_settings
from stripedjob.spec.load import load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROLES = ("enqueuer", "worker", "delegator", "operator", "viewer", "person")
UNITS, RESOURCES = 300, 30


@dataclass
class Site:
    """A pool of an ordinary owner or a superuser, a job in it, and a URL for each role."""

    job: Job
    urls: dict[str, str]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, command: str, role: str) -> subprocess.Popen[bytes]:
        """Start a worker or a delegator as its pod would."""
        env = {
            "STRIPEDJOB_SPEC": self.job.file.read_text(),
            "STRIPEDJOB_POSTGRES_URL": self.urls[role],
            "STRIPEDJOB_PATH": str(self.job.folder),
        }
        with (self.job.folder / f"{command}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "stripedjob", command], env=os.environ | env, stderr=log, stdout=log
            )
        self.processes.append(process)
        return process

    def do(self, role: str, command: str, *args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command as a role."""
        return stripedjob(command, self.job.file, *args, "--postgres", self.urls[role], stdin=stdin)

    def enqueue(self, units: int) -> None:
        lines = "".join(json.dumps({"resource": f"r{n % RESOURCES}", "payload": n}) + "\n" for n in range(units))
        done = self.do("enqueuer", "enqueue", "--from", "-", stdin=lines)
        assert done.returncode == 0, done.stderr

    def logs(self) -> str:
        return "".join(file.read_text() for file in self.job.folder.glob("*.log"))


@contextmanager
def site_of(url: str, folder: Path, *, ordinary: bool) -> Iterator[Site]:
    with psycopg.connect(url, autocommit=True) as admin, ExitStack() as stack:
        database = sql.Identifier(admin.info.dbname)
        admin.execute(sql.SQL("revoke temporary on database {} from public").format(database))
        urls = {"owner": url}
        if ordinary:
            owner = stack.enter_context(new_role(admin))
            grants = "grant create on database {0} to {1}; grant pg_read_all_stats, pg_signal_backend to {1}"
            admin.execute(sql.SQL(grants).format(database, sql.Identifier(owner)))
            urls["owner"] = as_role(url, owner)
        with OwnerPool.open(urls["owner"]) as pool:
            pool.migrate()
            for role in ROLES:
                name = stack.enter_context(new_role(admin))
                granted(pool.conn, role, name)
                urls[role] = as_role(url, name)
        site = Site(Job(folder / "job", url, ""), urls)
        site.job.write(lock={"backend": "Postgres", "leaseSeconds": 3})
        worker = sql.Identifier(str(psycopg.conninfo.conninfo_to_dict(urls["worker"])["user"]))
        admin.execute(sql.SQL("grant insert on effect to {}").format(worker))
        try:
            yield site
        finally:
            for process in site.processes:
                process.kill()
                process.wait()
            admin.execute("drop table effect")


@pytest.fixture(params=["superuser", "ordinary owner"])
def site(request: pytest.FixtureRequest, fresh_database: str, tmp_path: Path) -> Iterator[Site]:
    with site_of(fresh_database, tmp_path, ordinary=request.param == "ordinary owner") as made:
        yield made


@pytest.mark.parametrize("spec", [{"strategy": "FIFO"}, {"strategy": "Delegator"}], ids=lambda spec: spec["strategy"])
def test_each_process_does_its_work_with_its_role_alone(site: Site, spec: dict[str, Any]) -> None:
    site.job.write(**spec)
    with OwnerPool.open(site.urls["operator"]) as operator:
        assert operator.migrate() == []
        job_id = operator.apply(job_settings(load(site.job.file)))
        site.enqueue(UNITS)
        workers = [site.start("worker", "worker") for _ in range(2)]
        delegator = site.start("delegator", "delegator") if spec["strategy"] == "Delegator" else None
        await_("all is done", lambda: site.job.sql("select count(*) from effect") == [(UNITS,)])
        assert site.job.sql(OVERLAPS) == [(0,)]
        await_("both are there", lambda: [one.alive for one in operator.workers(job_id)] == [True, True])
        await_("all is recorded", lambda: operator.tend([job_id])[0].total_done == UNITS)
        operator.clean([job_id])
        for process in [*workers, *([delegator] if delegator else [])]:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0, site.logs()
        assert operator.is_empty(job_id)
        site.enqueue(3)
        assert operator.clear(job_id) == 3
    assert "42501" not in site.logs()


def test_people_look_and_change_with_roles_of_their_own(site: Site) -> None:
    with OwnerPool.open(site.urls["operator"]) as operator:
        operator.apply(job_settings(load(site.job.file)))
    site.enqueue(2)
    site.job.sql("update striped.unit set state = 'held', reason = 'x'")
    assert json.loads(site.do("viewer", "status", "--json").stdout)["pending"] == 2
    assert json.loads(site.do("viewer", "explain", "r0", "--json").stdout)["held"] == 1
    refused = site.do("viewer", "release")
    assert (refused.returncode, "permission denied for function revive" in refused.stderr) == (77, True)
    assert site.do("person", "release").returncode == 0
    for role in ("enqueuer", "viewer", "worker"):
        assert site.do(role, "migrate").returncode == 77
        assert site.do(role, "teardown", "--yes").returncode == 77


def test_an_enqueuer_is_told_of_a_job_that_is_not_there(site: Site) -> None:
    done = site.do("enqueuer", "enqueue", "--from", "-", stdin='{"resource": "r", "payload": 1}\n')
    assert (done.returncode, 'no job type "seed"' in done.stderr) == (1, True)


SESSIONS = """select pid from pg_stat_activity where application_name ~ '^stripedjob .' and xact_start is not null
    and datname = current_database()"""


def test_the_transaction_of_a_worker_that_is_stopped_is_ended_for_it(site: Site) -> None:
    """Its handler is in a transaction; the next holder of the resource need not wait for the dead."""
    gate = site.job.folder / "gate"
    with OwnerPool.open(site.urls["operator"]) as operator:
        operator.apply(job_settings(load(site.job.file)))
    line = json.dumps({"resource": "r", "payload": {"until": str(gate)}})
    assert site.do("enqueuer", "enqueue", "--from", "-", stdin=line + "\n").returncode == 0
    first = site.start("worker", "worker")
    ((session,),) = await_("the handler is in its transaction", lambda: site.job.sql(SESSIONS))
    os.kill(first.pid, signal.SIGSTOP)
    site.start("worker", "worker")
    await_("it is ended", lambda: (session,) not in site.job.sql(SESSIONS))
    gate.touch()
    await_("another does it", lambda: site.job.sql("select count(*) from effect") == [(1,)])
