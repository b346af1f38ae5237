"""`stripedjob run` goes on: its connection lost, its workers killed, its workers' output odd; and ends when told to."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.runs import Job, Run, await_, children, stripedjob

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.migrated

ODD_OUTPUT = """
import os, sys
def act(unit):
    for out in (sys.stdout, sys.stderr):
        print("[" * 200_000, file=out)
        print('{"level": "error", "event": "of the handler"}', file=out)
        print("x" * 3_000_000, file=out)
        print("\\n".join(f"line {n} of {unit.resource}" for n in range(1000)), file=out, flush=True)
        os.write(out.fileno(), b"\\xff\\xfe no text\\n")
"""


@pytest.fixture
def job(tmp_path: Path, fresh_database: str, fresh_valkey: str) -> Job:
    return Job(tmp_path / "job", fresh_database, fresh_valkey)


def put(job: Job, units: int, payload: Any = None) -> None:
    lines = "\n".join(json.dumps({"resource": f"r{n}", "payload": payload}) for n in range(units))
    job.do("enqueue", "--from", "-", stdin=lines)


def said(run: Run, stream: str) -> list[str]:
    return (run.folder / stream).read_text().splitlines()


def test_whatever_handlers_print_is_read_and_shown(job: Job) -> None:
    (job.folder / "odd.py").write_text(ODD_OUTPUT)
    job.write(handler={"python": "odd:act"})
    put(job, 20)
    with job.running("--until-empty", "--workers", "2") as run:
        assert run.await_end()["done"] == 20
    records = [json.loads(line) for line in said(run, "out") + said(run, "err")]
    lines = [record["line"] for record in records if record["event"] == "output"]
    assert sum(line.startswith("line ") for line in lines) == 2 * 1000 * 20
    assert sum(line.endswith("no text") for line in lines) == 2 * 20
    assert all(isinstance(json.loads(line), dict) for line in said(run, "out"))


def test_prints_are_named_by_their_worker(job: Job) -> None:
    (job.folder / "odd.py").write_text("def act(unit): print('worked on', unit.resource)")
    job.write(handler={"python": "odd:act"})
    put(job, 20)
    done = stripedjob("run", job.file, *job.where, "--until-empty")
    assert done.returncode == 0
    lines = [line for line in (done.stdout + done.stderr).splitlines() if "worked on" in line]
    assert sorted(line.partition(": ")[2] for line in lines) == sorted(f"worked on r{n}" for n in range(20))
    assert all(line.startswith("local-") for line in lines)


def test_the_supervisors_connection_is_lost_again_and_again(job: Job) -> None:
    job.write(handler={"python": "job_handlers:act"}, scaling={"scaleDownDelaySeconds": 0, "resourcesPerWorker": 1})
    put(job, 1000, 0.05)
    ended = 0

    def ends_it() -> bool:
        nonlocal ended
        query = """select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = current_database()
            and pid <> pg_backend_pid() and query not like 'select * from %%' and query like 'select %%"striped".%%'"""
        ended += job.sql(query)[0][0]
        return ended >= 20 or run.process.poll() is not None

    with job.running("--until-empty") as run:
        await_("it is at work", lambda: job.done() > 0)
        await_("it was lost 20 times", ends_it)
        assert run.process.poll() is None
        assert run.await_end()["pending"] == 0
    assert any("trying again" in line for line in said(run, "err"))


def test_workers_that_are_killed_as_soon_as_they_are_there_are_replaced(job: Job) -> None:
    put(job, 20)
    killed: set[int] = set()

    def kills() -> bool:
        for pid in set(run.workers()) - killed:
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
        return len(killed) == 5 or run.process.poll() is not None

    with job.running("--until-empty", "--workers", "1") as run:
        await_("so many were killed", kills)
        assert run.await_end()["pending"] == 0
    assert job.done() == 20


def test_a_second_ctrl_c_ends_at_once(job: Job) -> None:
    job.write(handler={"python": "job_handlers:act"}, drainSeconds=3600)
    put(job, 4, "hang")
    with job.running("--workers", "2") as run:
        await_("both are at work", lambda: job.status()["working"] == 2 and job.status()["leased_resources"] >= 2)
        everybody = [pid for worker in run.workers() for pid in (worker, *children(worker))]
        run.process.send_signal(signal.SIGINT)
        await_("they drain", lambda: '"draining"' in (run.folder / "err").read_text())
        run.process.send_signal(signal.SIGINT)
        assert run.process.wait(30) == 130
        await_("all have gone", lambda: not any(os.path.exists(f"/proc/{pid}") for pid in everybody))  # noqa: PTH110
    assert "ended at once" in (run.folder / "err").read_text()
