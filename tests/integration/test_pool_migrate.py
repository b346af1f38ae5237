"""Upgrades beside others: their objects, their grants, their open transactions; and a schema under any name."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from tests.support.pool_calls import JOB, all_done, claimed, settle
from tests.support.rights import granted

import stripedjob
from stripedjob import NewUnit
from stripedjob.pool.client.owner import OwnerPool
from stripedjob.pool.client.worker import WorkerPool
from stripedjob.pool.errors import PoolError, PoolRefusedError, PoolSchemaError
from stripedjob.pool.install import migrate as module
from stripedjob.pool.install.migrate import migrate, version
from stripedjob.pool.install.objects import listed
from stripedjob.pool.install.scripts import Migration, migrations, routines
from stripedjob.pool.install.teardown import Torn, teardown

ROOT = Path(__file__).parents[2]
# What somebody granted by hand, on tables.
BY_HAND = """grant usage on schema striped to {0};
grant select, insert, update, delete on all tables in schema striped to {0};
grant usage on all sequences in schema striped to {0};"""
NEWEST = migrations()[-1].version


@pytest.fixture
def conn(fresh_database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(fresh_database, autocommit=True) as conn:
        yield conn


@pytest.fixture
def role(conn: psycopg.Connection) -> Iterator[str]:
    name = f"role_{conn.info.backend_pid}"
    conn.execute(sql.SQL("create role {} login").format(sql.Identifier(name)))
    yield name
    conn.execute(sql.SQL("drop owned by {0}; drop role {0}").format(sql.Identifier(name)))


def names(conn: psycopg.Connection, schema: str) -> list[str]:
    with conn.transaction():
        conn.execute("set local search_path = pg_catalog")
        return [str(one) for one in listed(conn, schema)]


def run(conn: psycopg.Connection, statements: str) -> None:
    conn.execute(statements.encode())


# Names of schemas


@pytest.mark.parametrize("schema", ["user", "order", "select", "all", "table", "_1", "x" * 63])
async def test_a_pool_lives_in_a_schema_of_any_legal_name(fresh_database: str, schema: str) -> None:
    with OwnerPool.open(fresh_database, schema) as admin:
        assert admin.migrate()
        assert admin.migrate() == []
        async with WorkerPool.open(fresh_database, schema) as pool:
            job = await pool.apply_job(JOB)
            assert stripedjob.enqueue(admin.conn, "sync", NewUnit(resource="a"), schema=schema) == 1
            assert stripedjob.enqueue_many(admin.conn, "sync", [NewUnit(resource="a")], schema=schema) == 1
            worker = await pool.register(job, "w")
            (lease,) = await claimed(pool, job, worker)
            assert not await settle(pool, job, worker, [all_done(lease)])
        assert admin.status(job).total_done == 2
        assert admin.is_empty(job)
        assert admin.explain(job, "a")["resource"] == "a"
        assert admin.teardown() == Torn(dropped=True, left=())
        assert names(admin.conn, schema) == []


@pytest.mark.parametrize("schema", ["pg_striped", "information_schema", "x" * 64, "a\n"])
def test_other_names_are_refused(conn: psycopg.Connection, schema: str) -> None:
    with pytest.raises(PoolSchemaError, match="schema name"):
        migrate(conn, schema)


# Objects of others in the same schema


COLLISIONS = {
    "a table of tables": ("create table public.job (id int)", "job"),
    "a table of records": ("create table public.migration (version text)", "migration"),
    "a view": ("create view public.unit as select 1 x", "unit"),
    "a type": ("create type public.unit_state as enum ('x')", "unit_state"),
    "a sequence": ("create sequence public.fence", "fence"),
    "an index": ("create table public.t (id int); create index unit_ready on public.t (id)", "unit_ready"),
    "a function that would be replaced": (
        "create function public.is_empty(p_job int) returns boolean language sql as 'select false'",
        "is_empty",
    ),
    "a function of another result": (
        "create function public.dedup_window() returns int language sql as 'select 1'",
        "",
    ),
    "a view that would be replaced": ("create view public.job_status as select 1 id", "job_status"),
    "a table where a view should be": ("create table public.job_status (id int)", "job_status"),
}


@pytest.mark.parametrize("what", COLLISIONS)
def test_what_somebody_else_made_is_never_taken_over(conn: psycopg.Connection, what: str) -> None:
    statements, name = COLLISIONS[what]
    run(conn, statements)
    before = names(conn, "public")
    with pytest.raises(PoolRefusedError, match=f"objects of others.*{name}.*set pool.schema to another"):
        migrate(conn, "public")
    assert names(conn, "public") == before
    assert version(conn, "public") == 0


OTHERS = """
create table public.customers (id int primary key, name text default 'x');
create type public.mood as enum ('good');
create sequence public.numbers;
create view public.names as select name from public.customers;
create function public.enqueue(int) returns int language sql as 'select 1';
create table public."Odd \"\"name\"\" x" (mood public.mood)"""


def test_teardown_of_a_shared_schema_leaves_what_others_have_in_it(conn: psycopg.Connection) -> None:
    run(conn, OTHERS)
    before = names(conn, "public")
    migrate(conn, "public")
    assert migrate(conn, "public") == []
    assert teardown(conn, "public") == Torn(dropped=False, left=tuple(before))
    assert names(conn, "public") == before
    assert teardown(conn, "public") is None
    assert migrate(conn, "public")


def test_a_schema_that_others_use_as_well_is_kept(conn: psycopg.Connection) -> None:
    migrate(conn)
    run(conn, "create table striped.theirs (id int)")
    assert teardown(conn) == Torn(dropped=False, left=("table striped.theirs",))
    run(conn, "drop table striped.theirs")
    assert migrate(conn)
    assert teardown(conn) == Torn(dropped=False, left=())  # this time it was there before


DEPENDANTS = {
    "view team.v": "create view team.v as select * from striped.job_status",
    "materialized view team.v": "create materialized view team.v as select * from striped.unit",
    "table team.t": "create table team.t (job int references striped.job)",
    "table team.u": "create table team.u (state striped.unit_state)",
    "table team.w": "create table team.w (states striped.unit_state[])",
    "table team.d": "create table team.d (at interval default striped.dedup_window())",
    "table team.c": "create table team.c () inherits (striped.wake)",
    "function team.f(striped.unit)": "create function team.f(striped.unit) returns int language sql as 'select 1'",
    "function team.g()": "create function team.g() returns setof striped.job_status language sql as 'select null'",
    "table team.n": "create table team.n (number bigint default nextval('striped.fence'))",
}


@pytest.mark.parametrize("name", DEPENDANTS)
def test_teardown_names_what_others_built_on_it_and_drops_nothing(conn: psycopg.Connection, name: str) -> None:
    migrate(conn)
    before = names(conn, "striped")
    run(conn, "set check_function_bodies = off; create schema team; " + DEPENDANTS[name])
    with pytest.raises(PoolRefusedError, match=re.escape(f"depend on it: {name}") + "$"):
        teardown(conn)
    assert names(conn, "striped") == before


# Grants


def privileges(conn: psycopg.Connection, role: str) -> dict[str, set[str]]:
    """What a role may do with each relation of the pool."""
    query = """
        select c.relname, p from pg_class c, unnest(case c.relkind when 'S' then array['usage']
            else array['select', 'insert', 'update', 'delete'] end) p
        where c.relnamespace = 'striped'::regnamespace and c.relkind in ('r', 'v', 'S')
            and case c.relkind when 'S' then has_sequence_privilege(%s, c.oid, p)
                else has_table_privilege(%s, c.oid, p) end"""
    found: dict[str, set[str]] = {}
    for name, privilege in conn.execute(query, [role, role]):
        found.setdefault(name, set()).add(privilege)
    return found


@pytest.mark.parametrize("start", [m.version for m in migrations()[:-1]])
def test_whoever_could_use_the_pool_can_use_it_after_the_upgrade(
    conn: psycopg.Connection, role: str, start: int
) -> None:
    migrate(conn, to_version=start)
    run(conn, BY_HAND.format(role))
    migrate(conn)
    upgraded = privileges(conn, role)
    run(conn, BY_HAND.format(role))
    assert upgraded == privileges(conn, role)


AGAIN = (
    "drop function @extschema@.tend(int[]); drop function @extschema@.job_statuses(int[]);"
    " drop view @extschema@.job_status; drop function @extschema@.is_empty(int)"
)


def with_another_migration(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    known = [*migrations(), Migration(NEWEST + 1, "again", text)]
    monkeypatch.setattr(module, "migrations", lambda: known)


def test_what_is_made_again_keeps_its_grants(
    conn: psycopg.Connection, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(conn)
    run(conn, f"grant execute on function striped.is_empty to {role}")
    run(conn, f"grant select on striped.job_status to {role} with grant option")
    acls = """select relname, relacl::text from pg_class where relname = 'job_status'
        union all select proname, proacl::text from pg_proc where proname in ('is_empty', 'tend') order by 1"""
    before = conn.execute(acls).fetchall()
    with_another_migration(monkeypatch, AGAIN)
    assert migrate(conn) == [NEWEST + 1]
    assert conn.execute(acls).fetchall() == before


def may_call(conn: psycopg.Connection, role: str, name: str) -> bool:
    query = "select has_function_privilege(%s, oid, 'execute') from pg_proc where proname = %s"
    row = conn.execute(query, [role, name]).fetchone()
    return row == (True,)


def test_a_role_of_the_pool_may_call_what_is_new_of_its_part(conn: psycopg.Connection, role: str) -> None:
    migrate(conn)
    granted(conn, "viewer", role)
    run(conn, "drop function striped.workers; drop function striped.payloads; drop function striped.may")
    assert migrate(conn) == []
    assert may_call(conn, role, "workers")
    assert not may_call(conn, role, "payloads")
    assert not may_call(conn, role, "may")


def test_nothing_is_opened_by_what_a_database_or_others_give_by_default(conn: psycopg.Connection, role: str) -> None:
    for kind in ("tables", "sequences", "functions", "types"):
        run(conn, f"alter default privileges in schema public grant all on {kind} to {role}, public")
    run(conn, "create function public.enqueue(int) returns int language sql as 'select 1'")  # all may call it
    migrate(conn, "public")
    query = """
        select c.relname from pg_class c cross join lateral aclexplode(c.relacl) a
        where c.relnamespace = 'public'::regnamespace and a.grantee <> c.relowner
        union all select p.proname from pg_proc p cross join lateral aclexplode(coalesce(p.proacl,
            acldefault('f', p.proowner))) a
        where p.pronamespace = 'public'::regnamespace and a.grantee <> p.proowner and p.pronargs <> 1
        union all select t.typname from pg_type t cross join lateral aclexplode(coalesce(t.typacl,
            acldefault('T', t.typowner))) a
        where t.typnamespace = 'public'::regnamespace and a.grantee <> t.typowner and t.typtype = 'e'"""
    assert conn.execute(query).fetchall() == []


def test_what_others_built_on_is_named_and_not_dropped(
    conn: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(conn)
    run(conn, "create schema team; create view team.dashboard as select * from striped.job_status")
    with_another_migration(monkeypatch, AGAIN)
    with pytest.raises(PoolRefusedError, match=r"view team\.dashboard depend on.*nothing was changed"):
        migrate(conn)
    assert version(conn) == NEWEST
    assert conn.execute("select count(*) from team.dashboard").fetchone() == (0,)


def test_no_migration_cascades() -> None:
    texts = {m.name: m.text for m in migrations()} | {"routines": routines()}
    assert not [name for name, text in texts.items() if re.search(r"\bdrop\b[^;]*\bcascade\b", text, re.IGNORECASE)]


# Locks


@pytest.fixture
def blocker(
    conn: psycopg.Connection, fresh_database: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[psycopg.Connection]:
    """An application with an open transaction that has enqueued into a pool of an older version."""
    migrate(conn)
    with_another_migration(monkeypatch, "alter table @extschema@.unit add column note text")
    with psycopg.connect(fresh_database, application_name="billing") as blocker:
        blocker.execute("insert into striped.unit (job_id, resource) values (1, 'a')")
        yield blocker


def test_others_do_not_queue_behind_a_migration_that_waits(
    conn: psycopg.Connection, fresh_database: str, blocker: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOCK_TRIES", 1)
    errors: list[str] = []

    def upgrade() -> None:
        with pytest.raises(PoolError) as caught:
            migrate(conn)
        errors.append(str(caught.value))

    upgrading = threading.Thread(target=upgrade)
    upgrading.start()
    with psycopg.connect(fresh_database, autocommit=True) as other:
        waits = "select count(*) from pg_locks where not granted and mode = 'AccessExclusiveLock'"
        while other.execute(waits).fetchone() == (0,):
            pass
        other.execute("insert into striped.unit (job_id, resource) values (1, 'b')")  # comes through
    upgrading.join()
    pid = blocker.info.backend_pid
    assert re.search(rf"in use by pid {pid} \(billing, idle in transaction, since \d\d:", errors[0])
    assert version(conn) == NEWEST


def test_a_migration_says_whom_it_waits_for_and_goes_on_after_them(
    conn: psycopg.Connection,
    blocker: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("stripedjob.pool.install.migrate.time.sleep", lambda _: blocker.commit())
    with caplog.at_level("INFO", "stripedjob"):
        assert migrate(conn) == [NEWEST + 1]
    assert "billing" in caplog.text
    assert f"version {NEWEST + 1}" in caplog.text


def test_a_migration_that_waits_in_a_circle_with_others_is_tried_again(
    conn: psycopg.Connection, fresh_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(conn)
    tables = ("unit", "wake")
    text = "; ".join(f"alter table @extschema@.{table} add column note text" for table in tables)
    with_another_migration(monkeypatch, text)
    applied: list[list[int]] = []
    with psycopg.connect(fresh_database) as other:
        other.execute("lock table striped.wake in row exclusive mode")
        upgrading = threading.Thread(target=lambda: applied.append(migrate(conn)))
        upgrading.start()
        waits = "select count(*) from pg_locks where not granted and mode = 'AccessExclusiveLock'"
        while other.execute(waits).fetchone() == (0,):
            pass
        other.execute("select count(*) from striped.unit")  # Postgres ends who has waited for longer
        other.commit()
    upgrading.join()
    assert applied == [[NEWEST + 1]]


def test_a_pool_that_is_up_to_date_needs_no_lock(conn: psycopg.Connection, fresh_database: str, role: str) -> None:
    migrate(conn)
    granted(conn, "operator", role)
    theirs = psycopg.conninfo.make_conninfo(fresh_database, options=f"-c role={role}")
    with psycopg.connect(fresh_database) as blocker, psycopg.connect(theirs, autocommit=True) as app:
        blocker.execute("lock table striped.unit, striped.job, striped.stripe")
        blocker.execute("select pg_advisory_xact_lock(%s)", [module.MIGRATION_LOCK])
        assert migrate(app) == []


def test_a_migration_is_a_transaction_of_its_own(conn: psycopg.Connection) -> None:
    with conn.transaction(), pytest.raises(PoolError, match="of its own"):
        migrate(conn)
    assert version(conn) == 0


# Routines


def source(conn: psycopg.Connection, name: str) -> str | None:
    query = "select concat_ws(' ', prosrc, prosecdef, proconfig) from pg_proc where proname = %s"
    row = conn.execute(query, [name]).fetchone()
    return None if row is None else str(row[0])


DRIFTS: dict[str, Callable[[psycopg.Connection], Any]] = {
    "changed": lambda conn: run(
        conn, "create or replace function striped.is_empty(p_job int) returns boolean language sql as 'select true'"
    ),
    "gone": lambda conn: run(conn, "drop function striped.is_empty(int)"),
    "with the rights of who calls": lambda conn: run(conn, "alter function striped.is_empty security invoker"),
    "with a search path of somebody": lambda conn: run(conn, "alter function striped.is_empty reset search_path"),
}


@pytest.mark.parametrize("drift", DRIFTS)
def test_a_routine_that_was_changed_by_hand_is_put_right(conn: psycopg.Connection, drift: str) -> None:
    migrate(conn)
    ours = source(conn, "is_empty")
    DRIFTS[drift](conn)
    assert source(conn, "is_empty") != ours
    assert migrate(conn) == []
    assert source(conn, "is_empty") == ours


def test_routines_of_another_package_are_installed_though_no_migration_is_missing(
    conn: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(conn)
    text = routines() + "create or replace function @extschema@.added() returns int language sql as 'select 1';"
    monkeypatch.setattr(module, "routines", lambda: text)
    assert migrate(conn) == []
    assert source(conn, "added") == "select 1 f"
    assert teardown(conn) == Torn(dropped=True, left=())


def test_where_nothing_has_changed_nothing_is_installed_whatever_the_search_path(
    conn: psycopg.Connection, fresh_database: str
) -> None:
    migrate(conn)
    query = "select xmin::text from pg_proc where pronamespace = 'striped'::regnamespace"
    before = conn.execute(query).fetchall()
    with psycopg.connect(fresh_database, autocommit=True, options="-c search_path=striped") as other:
        assert migrate(other) == []
    assert conn.execute(query).fetchall() == before


def test_a_routine_that_cannot_run_is_found_when_it_is_installed(
    conn: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = "create or replace function @extschema@.broken() returns int language sql as 'table nowhere';"
    monkeypatch.setattr(module, "routines", lambda: routines() + broken)
    with pytest.raises(psycopg.errors.UndefinedTable, match="nowhere"):
        migrate(conn)
    assert version(conn) == 0
