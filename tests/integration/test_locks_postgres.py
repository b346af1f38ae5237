"""What is Postgres' own: no deadlocks, the table for outside parties, set-up mistakes, crashes."""

import asyncio
import random
import re
from pathlib import Path

import psycopg
import pytest
from tests.support.engines import RestartablePostgres
from tests.support.lock_env import LockSite, postgres_site
from tests.support.rights import as_role, new_role

from stripedjob.locks import LockConfigError, LockSettings, LockUnavailable, open_lock
from stripedjob.locks import postgres as postgres_module

LONG_MS = 60_000
TRIES_MAX = 600

ROOT = Path(__file__).parents[2]


@pytest.fixture
def site(pool_url: str) -> LockSite:
    return postgres_site(pool_url)


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
    take, give_back = re.findall(r"^select (?:.|\n)*?;", (ROOT / "docs" / "locks.md").read_text(), re.MULTILINE)
    with psycopg.connect(fresh_database, autocommit=True) as conn, new_role(conn, "locker") as role:
        async with site.lock() as lock:
            with psycopg.connect(as_role(fresh_database, role), autocommit=True) as outside:
                assert outside.execute(take.encode()).fetchall() == [(0,)]
                assert outside.execute(take.replace("my-token", "other").encode()).fetchall() > [(29_000,)]
                assert (await lock.acquire(["listing-42"], ["w:1"], LONG_MS))[0] > LONG_MS / 3
                assert outside.execute(give_back.encode()).fetchone() == (True,)
                assert await lock.acquire(["listing-42"], ["w:1"], LONG_MS) == [0]
                assert outside.execute(take.encode()).fetchall() > [(LONG_MS / 2,)]


async def test_a_missing_table_or_right_is_named(site: LockSite, fresh_database: str) -> None:
    async with site.lock(schema="elsewhere") as lock:
        with pytest.raises(LockConfigError, match="stripedjob migrate"):
            await lock.ping()
    with psycopg.connect(fresh_database, autocommit=True) as conn, new_role(conn, "enqueuer") as role:
        async with site.lock(url=as_role(fresh_database, role)) as lock:
            with pytest.raises(LockConfigError, match="stripedjob grant worker"):
                await lock.ping()


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
        with pytest.raises(LockUnavailable):  # noqa: PT012 - its sessions may live on for a moment
            for _ in range(TRIES_MAX):
                await lock.renew(["r"], ["w:1"], LONG_MS)
                await asyncio.sleep(0.05)
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
