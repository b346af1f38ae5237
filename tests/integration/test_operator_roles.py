"""The operator with a database role of its own, and workers with another: each does with its own what is its to do."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from tests.support.reconciling import Reconciling, until
from tests.support.rights import as_role, granted, new_role

from stripedjob.pool.client.owner import OwnerPool
from stripedjob.schedule import schedule_key
from stripedjob.spec.model import Schedule

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = 30.0
SCHEDULE = {"cron": "* * * * *", "enqueue": {"sql": "select current_user, '1'"}}
POOL = {
    "secretRef": {"name": "job", "key": "postgres"},
    "operatorSecretRef": {"name": "job", "key": "operator"},
}


@pytest.fixture
def pool(fresh_database: str) -> Iterator[OwnerPool]:
    with OwnerPool.open(fresh_database) as made:
        made.migrate()
        yield made


@pytest.fixture
def urls(pool: OwnerPool, fresh_database: str) -> Iterator[dict[str, str]]:
    with new_role(pool.conn, "worker") as worker, new_role(pool.conn, "operator") as operator:
        yield {"postgres": as_role(fresh_database, worker), "operator": as_role(fresh_database, operator)}


def begin(pool: OwnerPool, schedule: dict[str, Any]) -> None:
    """Have the job's schedule begun an hour ago, so that it is due."""
    key = schedule_key(Schedule.model_validate(schedule))
    at = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
    pool.conn.execute("update striped.turn set detail = %s, at = %s where kind = 'schedule'", [key, at])


async def test_a_query_of_the_stripedjob_runs_with_its_workers_role(pool: OwnerPool, urls: dict[str, str]) -> None:
    async with Reconciling().running() as site:
        site.apply("job", urls, pool=POOL, minWorkers=1)
        await until(lambda: site.condition("job", "PoolReachable")["reason"] == "Reachable", SECONDS)
        await until(lambda: site.replicas("job") == 1, SECONDS)
        await asyncio.to_thread(begin, pool, SCHEDULE)
        site.apply("job", urls, pool=POOL, schedule=SCHEDULE)
        await until(lambda: site.condition("job", "ScheduleWorks")["reason"] is not None, SECONDS)
        await until(lambda: pool.statuses()[0].pending == 1, SECONDS)
    (resource,) = pool.conn.execute("select resource from striped.unit").fetchone() or ()
    assert resource == role_of(urls["postgres"])


def role_of(url: str) -> str:
    return str(psycopg.conninfo.conninfo_to_dict(url)["user"])


async def test_a_role_that_is_missing_a_right_is_named_by_what_it_lacks(pool: OwnerPool, urls: dict[str, str]) -> None:
    given = {"postgres": urls["operator"], "operator": urls["postgres"]}  # the wrong way round
    async with Reconciling().running() as site:
        site.apply("job", given, pool=POOL)
        await until(lambda: site.condition("job", "PoolReachable")["reason"] == "PoolRefused", SECONDS)
        assert "stripedjob grant" in site.condition("job", "PoolReachable")["message"]
        await asyncio.to_thread(granted, pool.conn, "operator", role_of(urls["postgres"]))
        await until(lambda: site.condition("job", "PoolReachable")["reason"] == "Reachable", SECONDS)


async def test_the_operators_secret_is_looked_for_where_it_is_named(urls: dict[str, str]) -> None:
    gone = POOL | {"operatorSecretRef": {"name": "job", "key": "gone"}}
    async with Reconciling().running() as site:
        site.apply("job", urls, pool=gone)
        await until(lambda: site.condition("job", "PoolReachable")["reason"] == "SecretKeyNotFound", SECONDS)
        assert 'no key "gone"' in site.condition("job", "PoolReachable")["message"]
