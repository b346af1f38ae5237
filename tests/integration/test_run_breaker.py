"""Whole runs of a job whose handler fails at everything for a while: its units outlive that by the circuit breaker."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.runs import Job, await_

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.migrated

UNITS, RESOURCES, FAILURES, OPENINGS = 40, 20, 5, 4
NEEDS = {"python": "job_handlers:needs"}
KINDS: dict[str, dict[str, Any]] = {
    "mutex": {"handler": NEEDS},
    "transaction": {"handler": NEEDS | {"transaction": True}},
    "fifo": {"handler": NEEDS, "strategy": "FIFO"},
    "delegator": {"handler": NEEDS, "strategy": "Delegator"},
    "throttled": {"handler": NEEDS, "strategy": "Throttled", "throttle": {"maxOutstanding": 8, "rate": 1000}},
    "exec": {"handler": {"exec": ["sh", "-c", "cat >/dev/null; test -e up || exit 3"]}},
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_job_depends_on_is_away_for_longer_than_its_units_have_attempts(
    tmp_path: Path, fresh_database: str, fresh_valkey: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(tmp_path / "job", fresh_database, fresh_valkey)
    monkeypatch.chdir(job.folder)
    retry = {"maxAttempts": 2, "backoffSeconds": 1, "backoffSecondsMax": 2, "circuitBreaker": {"failures": FAILURES}}
    job.write(scheduleLimit=4, retry=retry, **KINDS[kind])
    job.create(UNITS, RESOURCES)
    with job.running("--until-empty", "--workers", "4") as run:
        openings = "select openings from striped.job where openings >= %s"
        await_("probes have failed", lambda: job.sql(openings, [OPENINGS]))
        (attempts,) = job.sql("select sum(attempts) from striped.unit")[0]
        (job.folder / "up").touch()
        summary = run.await_end()
    assert (summary["dead"], summary["done"]) == (0, UNITS)
    assert attempts == FAILURES - 1, "none from the one with which it opened"
    assert job.sql("select openings, alike from striped.job") == [(0, 0)]
    told = [json.loads(line) for line in (job.folder / "err").read_text().splitlines() if line.startswith("{")]
    fates = [(one["event"], one.get("spared", False)) for one in told if "unit" in one]
    assert ("unit dead", False) not in fates, "what was spared is not dead"
    assert [spared for _, spared in fates].count(True) >= OPENINGS
    said = (job.folder / "out").read_text()
    assert "circuit breaker open until" in said
    assert {"exec": "it exited with code 3"}.get(kind, "ConnectionError") + "; then one unit is tried" in said
