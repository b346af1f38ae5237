"""Whole workers whose handlers raise anything: one bad unit costs itself alone."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
from tests.support import hostile
from tests.support.worker_env import PATIENCE_SECONDS, Site

from stripedjob.runtime.worker.decide import RetryPolicy

RAISED: list[Any] = [
    *hostile.EXCEPTIONS,
    *(["no retry", name] for name in hostile.NO_DELAYS),
    *(["badly", name] for name in hostile.NO_DELAYS),
    *(["retry", name] for name in hostile.DELAYS),
    *(["dead", words] for words in ("", "a\0b", "x" * 100_000)),
]


@pytest.mark.parametrize("policy", [RetryPolicy(attempts_max=1), RetryPolicy(on_failure="Block", attempts_max=1)])
def test_one_bad_unit_costs_itself_alone(
    fresh_database: str, policy: RetryPolicy, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(fresh_database, policy=policy)
    site.sql(
        "insert into striped.unit (job_id, resource, payload) select %s, 'bad' || n, payload"
        " from unnest(%s::json[]) with ordinality u(payload, n)",
        [site.job_id, [json.dumps(one) for one in RAISED]],
    )
    site.fill(200, 20)
    site.drain(replace(site.handler("act"), target=("tests.support.hostile:raises",)))
    status = site.status()
    assert [status[f"total_{name}"] for name in ("done", "dead", "held", "crashed", "stale")] == [
        *(200, len(RAISED)),
        *(0, 0, 0),
    ]
    told = [record for record in caplog.records if record.message == "unit dead"]
    assert len(told) == len(RAISED)
    assert any("hostile.py" in getattr(record, "traceback", "") for record in told)


def test_units_wait_while_the_handler_has_no_connection(fresh_database: str, caplog: pytest.LogCaptureFixture) -> None:
    """The worker itself reaches Postgres, the handler does not: no attempt is counted, and no unit is lost."""
    caplog.set_level(logging.INFO)
    site = Site(fresh_database, policy=RetryPolicy(attempts_max=1))
    site.fill(6, 2)
    nowhere = replace(site.database, url="postgresql://127.0.0.1:1/none")

    async def scene() -> None:
        async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE_SECONDS):
            worker = await site.worker(stack, site.handler("record", database=nowhere))
            run = asyncio.create_task(worker.run())
            while sum(record.message == "units go back as they were" for record in caplog.records) < 3:
                await asyncio.sleep(0.02)
            worker.drain()
            await run

    asyncio.run(scene())
    assert site.sql("select distinct state::text, attempts, crashes from striped.unit") == [("ready", 0, 0)]
    site.drain(site.handler("record", database=site.database))
    assert site.status()["total_done"] == 6
