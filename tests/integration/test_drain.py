"""`stripedjob drain`, which a pod's preStop hook runs: it ends a worker that SIGTERM does not reach."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.support.runs import Job, await_, stripedjob

from stripedjob.runtime import pidfile

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.migrated

UNITS = 400


@pytest.fixture
def job(tmp_path: Path, fresh_database: str, fresh_valkey: str) -> Job:
    made = Job(tmp_path / "job", fresh_database, fresh_valkey)
    made.write(handler={"python": "job_handlers:act"})
    return made


@pytest.mark.acceptance("A47")
def test_a_worker_behind_a_shell_drains(job: Job, tmp_path: Path) -> None:
    lines = [json.dumps({"resource": f"r{n}", "payload": 0.02}) for n in range(UNITS)]
    job.do("enqueue", "--from", "-", stdin="\n".join(lines))
    env = {
        "STRIPEDJOB_SPEC": job.file.read_text(),
        "STRIPEDJOB_POSTGRES_URL": job.url,
        "STRIPEDJOB_LOCK_URL": job.lock_url,
        "STRIPEDJOB_PATH": str(job.folder),
        "STRIPEDJOB_PID_FILE": str(tmp_path / "worker.pid"),
    }
    assert stripedjob("drain", env=env).returncode == 0, "none is there yet"
    command = f"{sys.executable} -m stripedjob worker; echo ended with $?"
    with subprocess.Popen(["sh", "-c", command], env=os.environ | env, stdout=subprocess.PIPE, text=True) as shell:
        try:
            await_("some are done", lambda: job.done() > UNITS // 10)
            drained = stripedjob("drain", env=env)
            assert (drained.returncode, drained.stdout, drained.stderr) == (0, "", "")
            status = job.status()
            assert (status["workers"], status["in_flight"], status["total_crashed"]) == (0, 0, 0)
            assert UNITS // 10 < status["total_done"] < UNITS
            assert shell.communicate(timeout=10)[0] == "ended with 0\n"
        finally:
            shell.kill()
    assert stripedjob("drain", env=env).returncode == 0, "it has gone"


def test_a_pid_file_is_of_one_process(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    assert not pidfile.drain(path)
    with pidfile.holding(path), pytest.raises(OSError, match="another worker has it"), pidfile.holding(path):
        pass
    path.write_text("1")  # what a process that was killed has left
    assert not pidfile.drain(path)
    with pidfile.holding(path):
        assert path.read_text() == str(os.getpid())
