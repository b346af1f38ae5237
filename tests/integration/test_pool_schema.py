"""The pool as a whole: its migrations, its job types, its end."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import psycopg
import pytest
from tests.support.pool_calls import JOB, count, play

from stripedjob.pool.client.worker import WorkerPool
from stripedjob.pool.errors import PoolError, PoolUnreachableError
from stripedjob.pool.install.migrate import migrate, version
from stripedjob.pool.install.scripts import migrations
from stripedjob.pool.install.teardown import teardown


@pytest.mark.acceptance("A03")
def test_a03_migrations_fresh_repeated_and_upgraded(fresh_database: str) -> None:
    everything = [m.version for m in migrations()]
    with psycopg.connect(fresh_database, autocommit=True) as conn:
        assert migrate(conn, "upgraded_pool", to_version=everything[0]) == everything[:1]
        assert migrate(conn, "upgraded_pool") == everything[1:]
        assert migrate(conn, "upgraded_pool") == []
        assert version(conn, "upgraded_pool") == everything[-1]
        assert migrate(conn, "fresh_pool") == everything
        assert shape(conn, "upgraded_pool") == shape(conn, "fresh_pool")


def shape(conn: psycopg.Connection, schema: str) -> set[tuple[str, ...]]:
    """Everything that a migration can make, as text without the schema's name."""
    query = """
        select 'column', c.table_name || '.' || c.column_name, concat_ws(' ', udt_name, is_nullable, column_default)
        from information_schema.columns c where c.table_schema = %(schema)s
        union all select 'index', indexname, indexdef from pg_indexes where schemaname = %(schema)s
        union all select 'constraint', conname, pg_get_constraintdef(oid)
        from pg_constraint where connamespace = %(schema)s::regnamespace
        union all select 'routine', proname, pg_get_functiondef(oid)
        from pg_proc where pronamespace = %(schema)s::regnamespace
        union all select 'view', viewname, definition from pg_views where schemaname = %(schema)s
        union all select 'trigger', tgname, pg_get_triggerdef(t.oid)
        from pg_trigger t join pg_class c on c.oid = tgrelid
        where c.relnamespace = %(schema)s::regnamespace and not tgisinternal
        union all select 'value', typname || '.' || enumlabel, enumsortorder::text
        from pg_enum e join pg_type t on t.oid = enumtypid where typnamespace = %(schema)s::regnamespace"""
    rows = conn.execute(query, {"schema": schema}).fetchall()
    return {tuple(str(part).replace(schema, "") for part in row) for row in rows}


@pytest.mark.acceptance("A03")
def test_a03_two_migrations_at_once_are_safe(fresh_database: str) -> None:
    applied: list[list[int]] = []

    def run() -> None:
        with psycopg.connect(fresh_database, autocommit=True) as conn:
            applied.append(migrate(conn))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(len, applied)) == [0, 0, 0, len(migrations())]


@pytest.mark.acceptance("A11")
def test_a11_teardown_leaves_nothing_of_ours(db: psycopg.Connection) -> None:
    assert teardown(db)
    assert not teardown(db)
    assert version(db) == 0


def test_a_schema_of_another_name_holds_a_pool_of_its_own(db: psycopg.Connection) -> None:
    migrate(db, "other_pool")
    assert count(db, "select count(*) from other_pool.job") == 0


@pytest.mark.acceptance("A06")
def test_a06_applying_again_updates_in_place_and_never_from_an_older_generation(
    db: psycopg.Connection, fresh_database: str
) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        assert await pool.apply_job(replace(JOB, generation=2, schedule_limit=9)) == job_id
        assert await pool.apply_job(replace(JOB, generation=1, schedule_limit=1)) == job_id

    play(fresh_database, scene)
    assert count(db, "select schedule_limit from striped.job") == 9


def test_an_unknown_job_type_is_refused_with_a_way_out(db: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.NoDataFound, match=r"no job type \"nope\"[\s\S]*Apply its StripedJob"):
        db.execute("select striped.enqueue('nope', 'a')")


@pytest.mark.acceptance("A02")
def test_a02_an_unreachable_postgres_is_a_clear_error_in_bounded_time() -> None:
    async def run() -> None:
        async with WorkerPool.open("postgresql://127.0.0.1:1/none"):
            pass

    with pytest.raises(PoolUnreachableError, match="cannot be reached"):
        asyncio.run(run())
    assert issubclass(PoolUnreachableError, PoolError)
