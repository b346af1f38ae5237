"""A pool's schema may have any name that Postgres takes; two pools in one database know nothing of each other."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql
from tests.support.pool_calls import JOB, all_done, claimed, settle
from tests.support.reconciling import until

import stripedjob
from stripedjob import NewUnit
from stripedjob.locks import LockSettings, open_lock
from stripedjob.pool.client.bounded import BoundedPool
from stripedjob.pool.client.delegator import DelegatorPool
from stripedjob.pool.client.operator import OperatorPool
from stripedjob.pool.client.owner import OwnerPool
from stripedjob.pool.client.worker import WorkerPool
from stripedjob.pool.effects import steps
from stripedjob.pool.effects.handler_session import HandlerSession
from stripedjob.pool.effects.transaction import alone
from stripedjob.pool.errors import PoolSchemaError
from stripedjob.pool.install.doctor import examine
from stripedjob.pool.install.migrate import migrate
from stripedjob.pool.install.scripts import check_schema_name, for_schema, routines
from stripedjob.pool.names import channel
from stripedjob.pool.types import Database
from stripedjob.unit import Unit

if TYPE_CHECKING:
    from stripedjob.pool.types import Lease

NAMES = (
    'Größe "a.b"',
    "it's",
    "a$$b $body$",
    "%s %% %(x)s %",
    "back\\slash'",
    "select",
    "w",  # a variable in functions of ours
    " ",
    "@extschema@",
    "a|b",
    "'; drop schema public cascade; --",
    "X" * 63,
    "漢" * 21,
    "{}",
)
REFUSED = ("", "a\nb", "\0", "\x1b[31m", "a\x85", "x" * 64, "ä" * 32, "pg_mine", "information_schema")
SOON_SECONDS = 15.0


@pytest.mark.parametrize("name", REFUSED)
def test_what_postgres_does_not_take_or_a_terminal_should_not_is_refused(name: str) -> None:
    with pytest.raises(PoolSchemaError, match="schema name"):
        check_schema_name(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_pool_lives_in_a_schema_of_any_name(name: str, fresh_database: str, pool_url: str) -> None:
    with OwnerPool.open(pool_url, name) as admin:
        assert admin.migrate()
        assert admin.migrate() == []
        job_id = admin.apply(JOB)
        assert admin.settings(JOB.namespace, JOB.job_type) == JOB
    with psycopg.connect(fresh_database) as conn:
        stripedjob.enqueue(conn, JOB.job_type, NewUnit(resource="a"), schema=name)
        stripedjob.enqueue_many(conn, JOB.job_type, [NewUnit(resource="b")] * 3, schema=name)
    asyncio.run(work(pool_url, name, job_id))
    with OwnerPool.open(pool_url, name) as admin:
        assert [status.total_done for status in admin.tend([job_id])] == [4]
        assert admin.workers(job_id) == []
        assert admin.waiting(job_id).unit is None
        assert admin.explain(job_id, "a")
        assert admin.revive(job_id, "held", None, None) == 0
        admin.clean([job_id])
        assert examine(admin.conn, name) == []
        torn = admin.teardown()
        assert torn is not None
        assert torn.dropped
    with psycopg.connect(fresh_database) as conn:
        assert conn.execute("select count(*) from pg_namespace where nspname = %s", [name]).fetchone() == (0,)


async def work(url: str, schema: str, job_id: int) -> None:
    """Work on all there is: one lease by a transaction of its own, the other by a settlement."""
    settings = LockSettings(backend="Postgres", url=url, namespace=JOB.namespace, job_type=JOB.job_type, schema=schema)
    async with WorkerPool.open(url, schema) as pool, open_lock(settings) as lock:
        worker = await pool.register(job_id, "w")
        leases = await claimed(pool, job_id, worker) + await claimed(pool, job_id, worker)
        assert await lock.acquire([one.resource for one in leases], ["t"] * len(leases), 60_000) == [0, 0]
        assert await pool.resume(worker, 1, [one.fence for one in leases]) == []
        first, second = leases
        await asyncio.to_thread(complete, Database(url, schema, job_id), first)
        assert await settle(pool, job_id, worker, [all_done(first), all_done(second)]) == []
        assert await lock.release([one.resource for one in leases], ["t"] * len(leases)) == [True, True]
        assert await pool.poll(worker)
        await pool.leave(worker)
    async with DelegatorPool.open(url, schema) as delegator:
        await delegator.lead(job_id, "d")


def complete(database: Database, lease: Lease) -> None:
    session = HandlerSession(lambda _unit, conn: conn.execute("select"), database, is_async=False)
    units = [Unit(one, lease.resource, lease.fence, 1, "null", worker_id=lease.worker_id) for one in lease.ids]
    steps.run(alone(session, units))
    steps.run(session.close())


def routine(name: str) -> str:
    """Return the text of a function after its name."""
    _, _, after = routines().partition(f"create or replace function @extschema@.{name}")
    return after.partition("\n$$;")[0] + "\n$$"


CHANNEL = routine("channel")


@pytest.mark.parametrize("name", [*NAMES, "striped", "x" * 32, "x" * 33, "ä" * 16, "ä" * 17])
def test_channels_have_the_same_name_on_both_sides(name: str, postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as conn:
        function = b"create function pg_temp.channel" + for_schema(CHANNEL, name)
        conn.execute(function)
        for of in ("2147483647", "2147483647_delegator", "operator"):
            named = conn.execute("select pg_temp.channel(%s)", [of]).fetchone()
            assert named == (channel(name, of),)
            assert len(channel(name, of).encode()) <= 63


async def test_the_calls_of_one_pool_are_not_heard_in_another(fresh_database: str) -> None:
    """Not by a worker that sleeps, nor by the operator, though their jobs have the same number."""
    names, heard = ("Größe %s", "X" * 63), []
    with psycopg.connect(fresh_database, autocommit=True) as conn:
        for name in names:
            migrate(conn, name)
            with OwnerPool.open(fresh_database, name) as admin:
                assert admin.apply(replace(JOB, job_type="sync")) == 1
    async with (
        WorkerPool.open(fresh_database, names[0]) as mine,
        BoundedPool.open(fresh_database, names[0], OperatorPool) as operator,
        BoundedPool.open(fresh_database, names[1], OperatorPool) as other,
    ):
        await operator.listen("operator", lambda: heard.append("mine"))
        await other.listen("operator", lambda: heard.append("other"))
        await put(fresh_database, names[0])
        await until(lambda: heard == ["mine"], SOON_SECONDS)
        worker = await mine.register(1, "w")
        over = asyncio.Event()
        await mine.sleep(1, worker, 0, over)  # from here on it listens
        await put(fresh_database, names[1])
        await until(lambda: heard == ["mine", "other"], SOON_SECONDS)
        assert not await mine.sleep(1, worker, 0.2, over)
        sleep = asyncio.create_task(mine.sleep(1, worker, SOON_SECONDS, over))
        await put(fresh_database, names[0])
        assert await sleep


async def put(url: str, schema: str) -> None:
    async with await psycopg.AsyncConnection.connect(url) as conn:
        await conn.execute(sql.SQL("select {}('sync', 'r')").format(sql.Identifier(schema, "enqueue")))
