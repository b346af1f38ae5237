"""A server that somebody else has set up: the pool does the same there, at the same cost."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest
from tests.support.worker_env import Site

import stripedjob
from stripedjob.pool.client.owner import OwnerPool
from stripedjob.pool.client.viewer import ViewerPool
from stripedjob.pool.client.worker import WorkerPool
from stripedjob.pool.connection import connect
from stripedjob.pool.install import doctor

# What a database may have as its default, the worst for us of each, and what our own sessions have instead.
COSTS = {
    "jit": ("on", "off"),  # with sequential scans forbidden, plans look so expensive that each is compiled: seconds
    "max_parallel_workers_per_gather": ("8", "0"),
    "plan_cache_mode": ("force_custom_plan", "auto"),
    "enable_indexscan": ("off", "on"),
    "enable_indexonlyscan": ("off", "on"),
    "enable_nestloop": ("off", "on"),
}
MEANINGS = {
    "array_nulls": ("off", "on"),
    "idle_session_timeout": ("1s", "0"),
}
OTHERS = {
    "quote_all_identifiers": "on",
    "transform_null_equals": "on",
    "standard_conforming_strings": "off",
    "row_security": "off",
    "jit_above_cost": "0",
    "parallel_setup_cost": "0",
    "parallel_tuple_cost": "0",
    "min_parallel_table_scan_size": "0",
    "join_collapse_limit": "1",
    "from_collapse_limit": "1",
    "work_mem": "64kB",
    "intervalstyle": "iso_8601",
    "datestyle": "German",
    "timezone": "Asia/Kathmandu",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "search_path": "nowhere, public",
    "statement_timeout": "5s",
    "lock_timeout": "1s",
    "idle_in_transaction_session_timeout": "10s",
    "default_transaction_deferrable": "on",
    "default_toast_compression": "pglz",
    "client_min_messages": "debug5",
    "vacuum_cost_delay": "100",
    "check_function_bodies": "on",
    "escape_string_warning": "on",
    "synchronize_seqscans": "off",
    "constraint_exclusion": "on",
}


@pytest.fixture
def odd_database(fresh_database: str) -> str:
    """Return the URL of a database with all of these settings."""
    worst = {name: value for name, (value, _) in (COSTS | MEANINGS).items()} | OTHERS
    with psycopg.connect(fresh_database, autocommit=True) as conn:
        for name, value in worst.items():
            quoted = value if name == "search_path" else f"'{value}'"
            conn.execute(f"alter database {conn.info.dbname} set {name} = {quoted}".encode())
    return fresh_database


def test_our_sessions_have_settings_of_their_own(odd_database: str) -> None:
    query = "select name, current_setting(name) from pg_catalog.pg_settings where name = any(%s)"
    with connect(odd_database) as conn:
        found = conn.execute(query, [list(COSTS | MEANINGS)]).fetchall()
    assert {str(name): value for name, value in found} == {name: ours for name, (_, ours) in (COSTS | MEANINGS).items()}


def test_a_workers_session_plans_each_statement_once(odd_database: str) -> None:
    async def scene() -> Any:
        async with WorkerPool.open(odd_database) as pool:
            return await (await pool._conn.execute("show plan_cache_mode")).fetchone()

    assert asyncio.run(scene()) == ("force_generic_plan",)


@pytest.mark.parametrize("locks", ["Redis", "Postgres"])
def test_work_is_done_there(odd_database: str, fresh_valkey: str, locks: str) -> None:
    with OwnerPool.open(odd_database) as pool:
        pool.migrate()
    site = Site(odd_database, fresh_valkey if locks == "Redis" else None)
    new = [stripedjob.NewUnit(resource=f"r{n % 5}", payload=0.02) for n in range(50)]
    with psycopg.connect(odd_database, autocommit=True) as conn:
        assert stripedjob.enqueue_many(conn, "sync", [*new, stripedjob.NewUnit(resource="bad", payload="dead")]) == 51
    site.drain(site.handler("record", database=site.database), workers=2)
    assert site.sql("select count(*), count(distinct unit) from public.effect") == [(50, 50)]
    with ViewerPool.open(odd_database) as pool:
        [status] = pool.statuses()
        assert (status.total_done, status.dead, status.held) == (50, 1, 0)
        assert pool.explain(site.job_id, "bad")["resource"] == "bad"
        assert [one for one in doctor.examine(pool.conn, pool.schema) if one.level != "note"] == []
