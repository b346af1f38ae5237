"""Through PgBouncer in transaction mode, where clients share three sessions: nothing relies on one, or leaves it other.

Beside them another client leaves in the sessions whatever a session can have. What runs both ways has the fixture
`pool_url`: test_transactions.py, test_shared_transactions.py, test_locks_postgres.py, test_run_delegated.py.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from tests.support.engines import running
from tests.support.factories import job
from tests.support.poolers import pgbouncer_in
from tests.support.reconciling import until
from tests.support.runs import INVERSIONS, OVERLAPS, Job, await_, children
from tests.support.worker_env import PATIENCE_SECONDS, Site, drained

import stripedjob
from stripedjob import NewUnit
from stripedjob.pool.client.bounded import BoundedPool
from stripedjob.pool.client.delegator import DelegatorPool
from stripedjob.pool.client.owner import OwnerPool
from stripedjob.pool.client.worker import WorkerPool
from stripedjob.pool.connection import connect, connect_for_handler
from stripedjob.pool.errors import PoolError, PoolUnreachableError
from stripedjob.pool.install.scripts import migrations
from stripedjob.pool.types import JobSettings
from stripedjob.runtime.delegator import Delegator
from stripedjob.runtime.observe import Observer
from stripedjob.runtime.worker.decide import RetryPolicy
from stripedjob.settings import job_settings
from stripedjob_operator.databases import Databases

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.engines import RestartablePostgres

SOON_SECONDS = 15.0
LEFT_BEHIND = (  # in whichever session comes next
    "set search_path = nowhere",
    "set default_transaction_isolation = serializable",
    "set default_transaction_read_only = on",
    "set datestyle = 'German'",
    "set lock_timeout = '1 ms'",
    "begin read write; create temp table if not exists unit (id text); commit",
)
KEPT = """select current_setting('search_path'), current_setting('enable_seqscan'), current_setting('lock_timeout'),
    current_setting('statement_timeout'), current_setting('idle_in_transaction_session_timeout'),
    (select count(*) from pg_prepared_statements), (select count(*) from pg_listening_channels()),
    (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid())"""


@contextmanager
def neighbour(url: str) -> Iterator[list[BaseException]]:
    """Have another client use the pooler and spoil its sessions all the while; gives what went wrong for it."""
    failed: list[BaseException] = []
    over = threading.Event()

    def use() -> None:
        try:
            with psycopg.connect(url, autocommit=True, prepare_threshold=None) as conn:
                while not over.wait(0.01):
                    for statement in LEFT_BEHIND:
                        conn.execute(statement)
        except psycopg.Error as error:
            failed.append(error)

    thread = threading.Thread(target=use)
    thread.start()
    try:
        yield failed
    finally:
        over.set()
        thread.join()


def settings_of_sessions(url: str) -> list[Any]:
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as conn:
        return [conn.execute(KEPT).fetchone() for _ in range(6)]


def test_a_pooler_is_recognised_and_no_session_keeps_anything(pooled: str, fresh_database: str) -> None:
    before = settings_of_sessions(pooled)

    async def work() -> None:
        async with WorkerPool.open(pooled) as pool:
            job_id = await pool.apply_job(JobSettings("default", "sync"))
            worker = await pool.register(job_id, "w", "a name")
            for _ in range(20):
                await pool.renew(worker)
            assert not await pool.sleep(job_id, worker, 0.01, asyncio.Event())
        async with BoundedPool.open(pooled, "striped", OwnerPool) as bounded:
            await bounded.listen("operator", lambda: None)
            await bounded.call(OwnerPool.exists, 7.0)
            shown = await bounded.call(lambda admin: admin.conn.execute("show statement_timeout").fetchone(), 7.0)
            assert shown == ("7s",)

    with OwnerPool.open(pooled) as admin:
        assert [admin.migrate(), admin.migrate()] == [[one.version for one in migrations()], []]
    asyncio.run(work())
    assert settings_of_sessions(pooled) == before
    with connect(pooled) as conn, connect_for_handler(pooled, "a name") as handler:
        assert conn.is_pooled
        assert handler.is_pooled
    with connect(fresh_database) as conn, connect_for_handler(fresh_database, "a name") as handler:
        assert not conn.is_pooled
        assert conn.execute("select current_setting('search_path')").fetchone() == ("pg_catalog, pg_temp",)
        assert handler.execute("select current_setting('application_name')").fetchone() == ("a name",)


@pytest.mark.parametrize("value", ["'", "\\", "%s", "a\nb", "ä漢", "'; drop schema striped; --", "{}", '"'])
def test_values_come_as_they_are(pooled: str, value: str) -> None:
    with OwnerPool.open(pooled) as admin:
        admin.migrate()
        admin.apply(JobSettings("default", value))
        assert admin.job_id("default", value) == 1
        assert admin.statuses()[0].job_type == value
        with pytest.raises(PoolError, match="NUL"):
            admin.job_id("default", "\0")
        with pytest.raises(PoolError, match="there is no job"):
            admin.job_id("default", "another")
        assert [status.id for status in admin.tend([1])] == [1]


THROTTLED = {"delegated": True, "outstanding_max": 5, "starts_max": 1000, "period_seconds": 1}


@pytest.mark.parametrize(("strategy", "on_failure"), [({}, "Block"), ({}, "Skip"), (THROTTLED, "Skip")])
def test_a_job_drains_beside_a_neighbour_that_spoils_the_sessions(
    fresh_database: str, pooled: str, strategy: dict[str, Any], on_failure: str
) -> None:
    settings = JobSettings("default", "sync", schedule_limit=3, on_failure=on_failure, **strategy)
    site = Site(fresh_database, job=settings, pool_url=pooled)
    site.fill(300, 20)

    async def scene() -> None:
        delegator = Delegator(site.job_id, "d", lambda: DelegatorPool.open(pooled, "striped"), Observer("default/sync"))
        async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as tasks:
            if strategy:
                tasks.create_task(delegator.run())
            handler = site.handler("record", database=site.database)
            await drained(site, [await site.worker(stack, handler) for _ in range(3)])
            delegator.drain()

    with neighbour(pooled) as failed:
        asyncio.run(scene())
    assert failed == []
    assert site.sql("select count(*), count(distinct unit) from effect") == [(300, 300)]
    status = site.status()
    assert [status[name] for name in ("total_done", "total_crashed", "total_stale", "pending")] == [300, 0, 0, 0]
    assert site.sql("select count(*) from striped.lock") == [(0,)]


def test_a_worker_is_killed_and_the_sessions_of_others_go_on(fresh_database: str, pooled: str, tmp_path: Path) -> None:
    """Its transaction ends with it, and nobody ends a session by its name."""
    one = Job(tmp_path / "job", fresh_database, pooled, pool_url=pooled)
    one.write(lock={"backend": "Postgres", "leaseSeconds": 3}, scheduleLimit=2)
    gate = tmp_path / "gate"
    one.do("enqueue", "--from", "-", stdin=json.dumps({"resource": "r", "payload": {"until": str(gate)}}))
    one.create(200, 10)
    with neighbour(pooled) as failed, one.running("--until-empty", "--workers", "2") as run:
        held = "select 1 from striped.stripe where resource = 'r' and state = 'leased'"
        await_("the unit is worked on, and others are done", lambda: one.sql(held) and one.done() > 10)
        for worker in [pid for pid in run.workers() if children(pid)]:
            for pid in [*children(worker), worker]:
                os.kill(pid, signal.SIGKILL)
        gate.touch()
        summary = run.await_end()
    assert failed == []
    assert one.sql("select count(*), count(distinct unit) from effect") == [(201, 201)]
    assert (one.sql(OVERLAPS), one.sql(INVERSIONS)) == ([(0,)], [(0,)])
    assert (summary["done"], summary["stale"]) == (201, 0)


@pytest.mark.parametrize("function", ["record", "record_async"])
def test_a_session_that_the_server_ends_costs_a_new_connection(fresh_database: str, pooled: str, function: str) -> None:
    site = Site(fresh_database, pool_url=pooled, policy=RetryPolicy(attempts_max=1, on_failure="Dead"))
    site.fill(200, 20, "0.01")

    def has_done(units: int) -> bool:
        return site.status()["total_done"] >= units

    async def scene() -> None:
        async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE_SECONDS):
            worker = await site.worker(stack, site.handler(function, database=site.database))
            run = asyncio.create_task(worker.run())
            for done in (20, 60, 100):
                await until(partial(has_done, done), PATIENCE_SECONDS)
                site.sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'stripedjob'")
            await until(lambda: site.status()["pending"] + site.status()["in_flight"] == 0, PATIENCE_SECONDS)
            worker.drain()
            await run

    asyncio.run(scene())
    assert site.sql("select id, reason from striped.unit where state = 'dead'") == []
    assert site.sql("select count(*), count(distinct unit) from effect") == [(200, 200)]
    assert site.status()["total_crashed"] == 0


def test_whoever_enqueues_may_come_through_it(fresh_database: str, pooled: str) -> None:
    site = Site(fresh_database, pool_url=pooled)
    units = [NewUnit(resource=f"r{n % 7}", payload=n) for n in range(40)]

    async def enqueue_async() -> None:
        async with await psycopg.AsyncConnection.connect(pooled, prepare_threshold=None) as conn:
            await conn.set_read_only(False)
            await conn.set_isolation_level(psycopg.IsolationLevel.READ_COMMITTED)
            for unit in units:
                await stripedjob.aenqueue(conn, "sync", unit)
            await stripedjob.aenqueue_many(conn, "sync", units)

    with neighbour(pooled) as failed, psycopg.connect(pooled, prepare_threshold=None) as conn:
        conn.read_only, conn.isolation_level = False, psycopg.IsolationLevel.READ_COMMITTED
        for unit in units:
            stripedjob.enqueue(conn, "sync", unit)
            conn.execute("select striped.enqueue('sync', 'by sql')")
            conn.commit()
        stripedjob.enqueue_many(conn, "sync", units)
    asyncio.run(enqueue_async())
    assert failed == []
    assert site.sql("select count(*) from striped.unit") == [(200,)]


def test_the_operator_reads_and_makes_jobs_through_it(fresh_database: str, pooled: str) -> None:
    key = ("shop", "listing")

    async def scene() -> None:
        async with Databases(lambda _: None) as databases:
            database = databases.database(key, pooled, "striped")
            database.want(key, job_settings(job("listing")))
            await until(lambda: key in database.jobs, SOON_SECONDS)
            with psycopg.connect(fresh_database) as conn:
                stripedjob.enqueue(conn, "listing", NewUnit(resource="r"), namespace="shop")
            await until(lambda: database.jobs[key].status.pending == 1, SOON_SECONDS)
            await until(lambda: database.busy(key) == frozenset(), SOON_SECONDS)
            assert database.problem_of(key) is None

    with neighbour(pooled) as failed:
        asyncio.run(scene())
    assert failed == []


def test_a_stand_by_behind_it_is_waited_for(restartable_postgres: RestartablePostgres, tmp_path: Path) -> None:
    with OwnerPool.open(restartable_postgres.url) as admin:
        admin.migrate()
    restartable_postgres.stop()
    restartable_postgres.start_as_standby()
    pgbouncer = pgbouncer_in(tmp_path / "pgbouncer", restartable_postgres.url)
    with running(pgbouncer), OwnerPool.open(pgbouncer.url) as admin:
        with pytest.raises(PoolUnreachableError, match="stand-by"):
            admin.apply(JobSettings("default", "sync"))
        with psycopg.connect(restartable_postgres.url) as conn:
            conn.execute("select pg_promote()")
        assert admin.apply(JobSettings("default", "sync")) == 1


def test_an_idle_worker_finds_what_comes_though_nobody_can_call_it(fresh_database: str, pooled: str) -> None:
    site = Site(fresh_database, pool_url=pooled)

    async def scene() -> None:
        async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE_SECONDS):
            worker = await site.worker(stack, site.handler("act"))
            run = asyncio.create_task(worker.run())
            await until(lambda: site.sql("select count(polled_at) from striped.worker") == [(1,)], SOON_SECONDS)
            site.enqueue(["a"])
            await until(lambda: site.status()["total_done"] == 1, SOON_SECONDS)
            worker.drain()
            await run

    asyncio.run(scene())
