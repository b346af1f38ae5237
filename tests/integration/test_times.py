"""Due times and retries with a whole worker, in a database session that is set to Tokyo."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from urllib.parse import quote

import psycopg
import pytest
from tests.support.worker_env import PATIENCE_SECONDS, Site

pytestmark = pytest.mark.migrated

TOKYO = "options=" + quote("-c TimeZone=Asia/Tokyo")


@pytest.mark.acceptance("A09")
@pytest.mark.acceptance("A41")
def test_what_is_due_now_runs_now_and_what_is_due_in_an_hour_does_not(fresh_database: str) -> None:
    site = Site(fresh_database + ("&" if "?" in fresh_database else "?") + TOKYO)
    assert site.sql("show timezone") == [("Asia/Tokyo",)]
    with psycopg.connect(site.url, autocommit=True) as conn:
        for resource, hours, payload in (("past", -1, "null"), ("future", 1, "null"), ("retry", -1, '"in an hour"')):
            query = "select striped.enqueue('sync', %s, %s, due_at => now() + make_interval(hours => %s))"
            conn.execute(query, [resource, payload, hours])

    async def scene() -> None:
        async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE_SECONDS):
            worker = await site.worker(stack, site.handler("act"))
            run = asyncio.create_task(worker.run())
            while (site.status()["total_done"], site.status()["total_retried"]) != (1, 1):
                await asyncio.sleep(0.05)
            worker.drain()
            await run

    asyncio.run(scene())
    query = """select resource, state::text, attempts from striped.unit
        where due_at between now() + interval '59 minutes' and now() + interval '61 minutes' order by resource"""
    assert site.sql(query) == [("future", "delayed", 0), ("retry", "delayed", 1)]
    assert site.sql("select count(*) from striped.unit") == [(2,)]
