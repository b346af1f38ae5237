"""Delegator and Throttled: a fenced delegator assigns, workers take what is theirs, and every unit is worked once."""

from __future__ import annotations

import pytest
from tests.support.runs import OVERLAPS, Job

SPECS = [
    {"strategy": "Delegator"},
    {"strategy": "Throttled", "throttle": {"maxOutstanding": 50, "rate": 1_000_000, "periodSeconds": 1}},
]


@pytest.mark.acceptance("A21")
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec["strategy"])
def test_the_seed_workload(tmp_path, fresh_database: str, fresh_valkey: str, spec) -> None:
    job = Job(tmp_path / "job", fresh_database, fresh_valkey)
    job.write(**spec)
    job.create(10_000, 1_000)
    with job.running("--until-empty", "--workers", "8") as run:
        summary = run.await_end()
    print(summary)
    assert job.sql("select count(*), count(distinct unit) from effect") == [(10_000, 10_000)]
    assert job.sql(OVERLAPS) == [(0,)]
