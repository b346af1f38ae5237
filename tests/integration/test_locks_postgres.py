"""What is Postgres' own: no deadlocks, the table for outside parties, set-up mistakes, crashes."""

import asyncio
import os
import random
from pathlib import Path

import psycopg
import pytest
from tests.support.engines import RestartablePostgres
from tests.support.lock_env import LockSite, postgres_site

from stripedjob.locks import LockConfigError, LockSettings, LockUnavailable, open_lock
from stripedjob.locks import postgres as postgres_module

LONG_MS = 60_000
TRIES_MAX = 600


@pytest.fixture
def site(fresh_database: str) -> LockSite:
    return postgres_site(fresh_database)


async def test_batches_in_any_order_do_not_deadlock(site: LockSite, fresh_database: str) -> None:
    names = [f"r{number:02}" for number in range(40)]

    async def client(number: int) -> None:
        chance = random.Random(number)
        async with site.lock() as lock:
            for turn in range(60):
                resources = chance.sample(names, 30)
                tokens = [f"client-{number}:{turn}"] * 30
                await lock.acquire(resources, tokens, LONG_MS)
                await lock.renew(resources, tokens, LONG_MS)
                await lock.release(resources[::-1], tokens)

    await asyncio.gather(*(client(number) for number in range(6)))
    with psycopg.connect(fresh_database) as connection:
        query = "select deadlocks from pg_stat_database where datname = current_database()"
        assert connection.execute(query).fetchone() == (0,)
        assert connection.execute("select count(*) from striped.lock").fetchone() == (0,)


async def test_a_batch_waits_for_no_longer_than_the_others_statement(
    site: LockSite, fresh_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_module, "CALL_SECONDS_MAX", 0.3)
    async with site.lock() as lock:
        await lock.acquire(["r"], ["w:1"], LONG_MS)
        with psycopg.connect(fresh_database) as outside:
            outside.execute("select from striped.lock for update")
            with pytest.raises(LockUnavailable, match="no answer"):
                await lock.acquire(["r"], ["w:1"], LONG_MS)
            outside.rollback()
        assert await lock.release(["r"], ["w:1"]) == [True]


async def test_an_outside_party_keeps_workers_off(site: LockSite, fresh_database: str) -> None:
    take = """
        insert into striped.lock (namespace, job_type, resource, token, expires_at)
        values ('default', 'listing-sync', 'r', 'app', now() + interval '1 minute')
        on conflict (namespace, job_type, resource) do update
           set token = excluded.token, expires_at = excluded.expires_at
         where lock.expires_at <= now()
        returning token
    """
    give_back = "delete from striped.lock where resource = 'r' and token = 'app' returning token"
    async with site.lock() as lock:
        with psycopg.connect(fresh_database, autocommit=True) as outside:
            assert outside.execute(take).fetchone() == ("app",)
            assert outside.execute(take).fetchone() is None
            assert (await lock.acquire(["r"], ["w:1"], LONG_MS))[0] > LONG_MS / 2
            assert outside.execute(give_back).fetchone() == ("app",)
            assert await lock.acquire(["r"], ["w:1"], LONG_MS) == [0]
            assert outside.execute(take).fetchone() is None


async def test_a_missing_table_or_right_is_named(site: LockSite, fresh_database: str) -> None:
    async with site.lock(schema="elsewhere") as lock:
        with pytest.raises(LockConfigError, match="stripedjob migrate"):
            await lock.ping()
    role = f"narrow_{os.getpid()}"
    with psycopg.connect(fresh_database, autocommit=True) as connection:
        connection.execute(psycopg.sql.SQL("create role {} login").format(psycopg.sql.Identifier(role)))
        connection.execute(
            psycopg.sql.SQL(
                "grant usage on schema striped to {0}; grant select, insert, update on striped.lock to {0}"
            ).format(psycopg.sql.Identifier(role))
        )
        try:
            async with site.lock(url=f"{fresh_database}&user={role}") as lock:
                with pytest.raises(LockConfigError, match="grant the worker's role"):
                    await lock.ping()
        finally:
            connection.execute(psycopg.sql.SQL("drop owned by {0}; drop role {0}").format(psycopg.sql.Identifier(role)))


async def test_a_wrong_database_or_url_is_named(site: LockSite, fresh_database: str) -> None:
    async with site.lock(url=fresh_database.replace("/test_", "/none_")) as lock:
        with pytest.raises(LockConfigError, match="check user, password, database"):
            await lock.ping()
    with pytest.raises(LockConfigError, match="cannot be used"):
        site.lock(url="postgresql://h/db?nonsense=1")


async def test_nobody_listening_is_unavailable(tmp_path: Path) -> None:
    url = f"postgresql://postgres@/postgres?host={tmp_path}"
    settings = LockSettings(backend="Postgres", url=url, namespace="default", job_type="x")
    async with open_lock(settings) as lock:
        with pytest.raises(LockUnavailable, match="check that Postgres runs"):
            await lock.ping()


@pytest.mark.acceptance("A38")
async def test_locks_lost_to_a_crash_are_taken_again_by_the_renewal(
    restartable_postgres: RestartablePostgres,
) -> None:
    async with postgres_site(restartable_postgres.url).lock() as lock:
        await lock.acquire(["r"], ["w:1"], LONG_MS)
        restartable_postgres.kill()
        with pytest.raises(LockUnavailable):
            await lock.renew(["r"], ["w:1"], LONG_MS)
        restartable_postgres.start()
        for _ in range(TRIES_MAX):
            try:
                assert await lock.renew(["r"], ["w:1"], LONG_MS) == [True]
            except LockUnavailable:
                await asyncio.sleep(0.05)
            else:
                break
        assert await lock.release(["r"], ["w:1"]) == [True]


async def test_a_closed_session_is_opened_again_within_the_call(site: LockSite, fresh_database: str) -> None:
    async with site.lock() as lock:
        await lock.acquire(["r"], ["w:1"], LONG_MS)
        with psycopg.connect(fresh_database, autocommit=True) as connection:
            connection.execute(
                "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
                " where application_name = 'stripedjob-lock' and datname = current_database()"
            )
        assert await lock.release(["r"], ["w:1"]) == [True]
