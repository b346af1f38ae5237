"""`stripedjob run` whose log volume is full: lines are lost, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.runs import PATIENCE_SECONDS, Job

UNITS = 14  # of which two fail at first, which is logged


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize("options", [["--json"], []])
def test_a_full_log_volume_costs_lines_alone(
    options: list[str], tmp_path: Path, fresh_database: str, fresh_valkey: str
) -> None:
    job = Job(tmp_path / "job", fresh_database, fresh_valkey)
    job.write(handler={"python": "job_handlers:fails_at_first", "transaction": True})
    lines = [json.dumps({"resource": f"r{number}", "payload": {}}) for number in range(UNITS)]
    job.do("enqueue", "--from", "-", stdin="\n".join(lines))
    command = [sys.executable, "-m", "stripedjob", "run", str(job.file), *job.where, "--until-empty", *options]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=full, text=True, timeout=PATIENCE_SECONDS, check=False
        )
    assert done.returncode == 0
    assert job.done() == UNITS


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_what_run_says_before_and_after_its_work_may_be_lost_as_well(
    tmp_path: Path, fresh_database: str, fresh_valkey: str
) -> None:
    job = Job(tmp_path / "job", fresh_database, fresh_valkey)
    job.write()
    job.do("enqueue", "--from", "-", stdin=json.dumps({"resource": "r", "payload": {}}))
    job.write(scheduleLimit=3)  # which run says that it changes
    command = [sys.executable, "-m", "stripedjob", "run", str(job.file), *job.where, "--until-empty"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=full, timeout=PATIENCE_SECONDS, check=False)
    assert job.done() == 1
    assert done.returncode == 0
