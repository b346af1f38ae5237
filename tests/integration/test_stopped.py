"""A worker whose main process is stopped: its executor ends by itself when their lease may be over."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from tests.support.runs import OVERLAPS, Job, await_, children

OPEN = """
select 1 from pg_stat_activity where datname = current_database() and state = 'idle in transaction'
    and starts_with(application_name, 'stripedjob ')"""  # of a worker's handlers


def test_an_executor_ends_in_time_though_its_main_process_is_stopped(
    tmp_path: Path, fresh_database: str, fresh_valkey: str
) -> None:
    job, end = Job(tmp_path / "job", fresh_database, fresh_valkey), tmp_path / "end"
    job.do("enqueue", "--from", "-", stdin=json.dumps({"resource": "a", "payload": {"until": str(end)}}))
    with job.running("--until-empty", "--workers", "1") as run:
        await_("the handler is in its transaction", lambda: job.sql(OPEN))
        worker = run.workers()[0]
        (executor,) = children(worker)
        os.kill(worker, signal.SIGSTOP)
        try:
            await_("the executor has ended", lambda: has_ended(executor))
            end.touch()
        finally:
            os.kill(worker, signal.SIGCONT)
        assert run.await_end()["done"] == 1
    assert job.sql("select count(*) from effect") == [(1,)]
    assert job.sql(OVERLAPS) == [(0,)]


def has_ended(pid: int) -> bool:
    """Tell whether it has, also where nobody has taken note of it yet: its parent is stopped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
