"""Processes, servers and other transactions that fail while units share a transaction: each unit is done once."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
from tests.support.leases import run
from tests.support.slots import Slot, effect
from tests.support.worker_env import PATIENCE_SECONDS, ROOT, Site, drained

from stripedjob.pool.types import Lease
from stripedjob.runtime.executor.wire import Config
from stripedjob.runtime.outcome import Outcome, Verdict
from stripedjob.runtime.worker.decide import RetryPolicy

if TYPE_CHECKING:
    import psycopg
    from tests.support.engines import RestartablePostgres

    from stripedjob.unit import Unit

pytestmark = pytest.mark.migrated

FUNCTIONS = pytest.mark.parametrize("function", ["record", "record_async"])
ODD = 6


def outcome_of(site: Site, function: str, *payloads: str, timeout_seconds: float = 300.0) -> Outcome:
    """Lease units with these payloads, and have an executor work on them."""
    site.sql(
        "insert into striped.unit (job_id, resource, payload) select %s, 'r', payload from unnest(%s::json[]) payload",
        [site.job_id, list(payloads)],
    )
    worker = site.sql("select striped.register(%s, 'w')", [site.job_id])[0][0]
    site.sql("select striped.upkeep(%s)", [site.job_id])
    query = "select fences, ids from striped.claim(%s, 0, 1, 100, 1000000)"
    ((fence,), ids) = site.sql(query, [worker])[0]
    zeros = (0,) * len(ids)
    lease = Lease("r", fence, False, False, tuple(ids), zeros, zeros, payloads, worker)  # noqa: FBT003
    handler = site.handler(function, database=site.database, timeout_seconds=timeout_seconds)
    return run([lease], Config(handler, path=str(ROOT)))[0]


@FUNCTIONS
@pytest.mark.parametrize(("word", "verdict"), [("die", Verdict.CRASH), ("hang", Verdict.RETRY)])
def test_of_those_that_an_executor_died_with_the_one_that_ran_is_blamed(
    fresh_database: str, function: str, word: str, verdict: Verdict
) -> None:
    site = Site(fresh_database)
    payloads = ["0"] * 20
    payloads[ODD] = f'"{word}"'
    outcome = outcome_of(site, function, *payloads, timeout_seconds=1 if word == "hang" else 300)
    assert [(fault.index, fault.verdict) for fault in outcome.faults] == [(ODD, verdict)]
    committed = site.sql("select count(*) from effect")[0][0]  # by transactions before, where the machine was slow
    assert outcome.tried == committed <= ODD
    assert site.sql("select count(*) from striped.unit where state = 'ready'") == [(20 - committed,)]


def test_executors_that_are_killed_change_nothing(fresh_database: str) -> None:
    site = Site(fresh_database, policy=RetryPolicy(crash_threshold=1000))
    site.fill(2000, 20, "0.001")

    async def scene() -> None:
        async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE_SECONDS):
            handler = site.handler("record", database=site.database)
            crew = [await site.worker(stack, handler) for _ in range(2)]
            working = asyncio.create_task(drained(site, crew))
            killed = set()
            for done in (100, 500, 900, 1300):
                while site.status()["total_done"] < done:
                    await asyncio.sleep(0.02)
                for worker in crew:
                    process = worker._executor._process
                    if process is not None and process.pid not in killed:
                        killed.add(process.pid)
                        os.kill(process.pid, signal.SIGKILL)
            await working
            assert len(killed) > 1

    asyncio.run(scene())
    status = site.status()
    assert [status[name] for name in ("total_done", "total_dead", "total_retried", "pending")] == [2000, 0, 0, 0]
    assert site.sql("select count(*), count(distinct unit) from effect") == [(2000, 2000)]


def test_transactions_that_wait_for_each_other_are_nobodys_try(fresh_database: str) -> None:
    """Each unit changes one of two rows, in this order or the other: alone they never wait for each other."""
    site = Site(fresh_database, policy=RetryPolicy(attempts_max=1))
    site.sql("create table counted (name text primary key, n int)")
    site.sql("insert into counted values ('x', 0), ('y', 0)")
    names = {"a": "xy" * 100, "b": "yx" * 100}
    site.sql(
        "insert into striped.unit (job_id, resource, payload) select %s, resource, to_json(name)"
        " from json_each_text(%s) r(resource, names), string_to_table(names, null) name",
        [site.job_id, f'{{"a": "{names["a"]}", "b": "{names["b"]}"}}'],
    )
    site.drain(site.handler("count", database=site.database), workers=2)
    status = site.status()
    assert (status["total_done"], status["total_dead"], status["total_retried"]) == (400, 0, 0)
    assert site.sql("select n from counted") == [(200,), (200,)]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_commit_whose_answer_is_lost_counts(restartable_postgres: RestartablePostgres, kind: str) -> None:
    """Postgres has committed, and its session ends while it waits for a stand-by that is not there."""
    slot = Slot(restartable_postgres.url, kind)
    site = slot.site
    site.sql("alter system set synchronous_standby_names to 'nobody'")
    site.sql("alter role all set synchronous_commit to local")
    waits = "begin perform set_config('synchronous_commit', 'on', true); return old; end"
    site.sql(f"create function wait() returns trigger language plpgsql as $$ {waits} $$")
    site.sql("create trigger waits before delete on striped.unit for each row execute function wait()")
    site.sql("select pg_reload_conf()")

    async def end_it() -> None:
        ended = False
        while not ended:
            found = await asyncio.to_thread(
                site.sql,
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where application_name = 'tested' and wait_event = 'SyncRep'",
            )
            ended = bool(found)

    async def scene() -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.gather(end_it(), asyncio.to_thread(slot.work, act))

    def act(unit: Unit, conn: psycopg.Connection) -> None:
        effect(unit, conn)

    asyncio.run(scene())
    (outcome,) = slot.outcomes
    assert (outcome.tried, outcome.faults) == (0, ())
    assert "the connection to Postgres was lost" in outcome.away
    assert (slot.effects(), slot.left(), slot.calls) == (list(range(20)), [], list(range(20)))
