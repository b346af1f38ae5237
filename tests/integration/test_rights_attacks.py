"""What somebody who may enqueue, or work, tries beyond that."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import errors, sql
from tests.support.engines import new_database
from tests.support.rights import Pool, as_role, outcome, pool_of

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module", params=["superuser", "ordinary owner"])
def pool(request: pytest.FixtureRequest, postgres_url: str) -> Iterator[Pool]:
    with new_database(postgres_url) as url, pool_of(url, ordinary=request.param == "ordinary owner") as made:
        yield made


HARM = {
    "end a session": "select pg_terminate_backend({pid})",
    "cancel a statement": "select pg_cancel_backend({pid})",
    "see a statement": "select 1 / (query <> '<insufficient privilege>')::int from pg_stat_activity where pid = {pid}",
    "have temporary tables": "create temporary table t ()",
    "make something in the pool's schema": "create table striped.t ()",
    "become the owner": 'set role "{owner}"',
    "replace the clock": "create or replace function striped.clock() returns timestamptz language sql"
    " as 'select now()'",
    "change a function's rights": "alter function striped.enqueue security invoker",
    "have a trigger on units": "create trigger t before insert on striped.unit"
    " execute function striped.wake_inserted()",
    "have a column of its own": "alter table striped.unit add column t int",
    "stop the triggers": "set session_replication_role = replica",
    "drop the pool": "drop schema striped cascade",
    "set the fences back": "select setval('striped.fence', 1)",
}


@pytest.mark.parametrize("what", HARM)
def test_an_enqueuer_can_harm_nobody(pool: Pool, what: str) -> None:
    with pool.connect("enqueuer") as conn:
        statement = HARM[what].format(pid=pool.owner.info.backend_pid, owner=pool.owner.info.user)
        found = outcome(conn, statement)
    refused = "failed: 22012 division by zero" if what == "see a statement" else "(refused|failed: 42501)"
    assert re.match(refused, found), found


TRAPS = """
create function evil.trap() returns void language plpgsql as 'begin raise exception ''trapped''; end';
create function evil.eq(text, text) returns boolean language sql as 'select evil.trap(); select true';
create function evil.gt(timestamptz, timestamptz) returns boolean language sql as 'select evil.trap(); select true';
create operator evil.= (leftarg = text, rightarg = text, function = evil.eq);
create operator evil.> (leftarg = timestamptz, rightarg = timestamptz, function = evil.gt);
create function evil.eq(bigint, bigint) returns boolean language sql as 'select evil.trap(); select false';
create function evil.of(bigint, bigint) returns bigint language sql as 'select evil.trap(); select 1::bigint';
create function evil.of(bigint, int) returns bigint language sql as 'select evil.trap(); select 1::bigint';
create function evil.of(float8, float8) returns float8 language sql as 'select evil.trap(); select 1::float8';
create operator evil.= (leftarg = bigint, rightarg = bigint, function = evil.eq);
create operator evil.& (leftarg = bigint, rightarg = bigint, function = evil.of);
create operator evil.| (leftarg = bigint, rightarg = bigint, function = evil.of);
create operator evil.| (leftarg = bigint, rightarg = int, function = evil.of);
create operator evil.<< (leftarg = bigint, rightarg = int, function = evil.of);
create operator evil.* (leftarg = float8, rightarg = float8, function = evil.of);
create function evil.date_part(text, timestamptz) returns float8 language sql as 'select evil.trap(); select 1.0';
create function evil.pg_sequence_last_value(regclass) returns bigint language sql as 'select evil.trap(); select 1';
create function evil.setval(regclass, bigint) returns bigint language sql as 'select evil.trap(); select 1';
create function evil.nextval(regclass) returns bigint language sql as 'select evil.trap(); select 1::bigint';
create function evil.clock_timestamp() returns timestamptz language sql as 'select evil.trap(); select now()';
create function pg_temp.nextval(regclass) returns bigint language sql as 'select evil.trap(); select 1::bigint';
create temporary table job (id int);
create temporary table unit (id int);
create temporary table wake (id int);
set search_path = evil, pg_temp, striped, pg_catalog"""


def test_objects_of_others_are_never_taken_for_postgres_own(pool: Pool) -> None:
    """Operators, functions, tables and casts of the caller's, first in the search path and among temporary ones."""
    pool.admin.execute(
        sql.SQL("grant temporary on database {} to public").format(sql.Identifier(pool.admin.info.dbname))
    )
    role = sql.Identifier(pool.roles["enqueuer"])
    pool.admin.execute(sql.SQL("create schema evil authorization {}").format(role))
    with pool.connect("enqueuer") as conn:
        for statement in TRAPS.split(";\n"):
            conn.execute(statement.encode())
        assert outcome(conn, "select enqueue('one', 'r', '1', 1, now() + interval '1 day', 'x')") == "done"
        assert outcome(conn, "select enqueue_rows('default', 'one', '{r}', '{1}', null, null, null)") == "done"
    pool.admin.execute("drop schema evil cascade")
    pool.admin.execute(
        sql.SQL("revoke temporary on database {} from public").format(sql.Identifier(pool.admin.info.dbname))
    )


FIRE = "select striped.fire(%s, 's', now() + %s * interval '1 minute', %s)"


def test_a_schedules_query_runs_with_the_rights_of_who_calls(pool: Pool) -> None:
    with pool.connect("operator") as conn:
        conn.execute(FIRE, [pool.jobs[0], 0, None])  # begins it
        assert conn.execute(FIRE, [pool.jobs[0], 1, "select current_user, '1'"]).fetchone() == (1,)
        with pytest.raises(errors.InsufficientPrivilege, match="for table unit"):
            conn.execute(FIRE, [pool.jobs[0], 2, "select resource, payload from striped.unit"])
    found = pool.owner.execute("delete from striped.unit returning resource").fetchall()
    assert found == [(pool.roles["operator"],)]


@pytest.mark.parametrize("victim", ["worker", "enqueuer"])
def test_a_worker_ends_no_session_of_another_role_by_taking_its_name(pool: Pool, victim: str) -> None:
    if pool.owner is not pool.admin:
        owner = sql.Identifier(pool.owner.info.user)
        pool.admin.execute(sql.SQL("grant pg_signal_backend, pg_read_all_stats to {}").format(owner))
    pool.owner.execute("delete from striped.wake")  # of units that other tests have removed
    url = as_role(pool.url, pool.roles[victim])
    named = psycopg.conninfo.make_conninfo(url, application_name="handlers")
    with pool.connect("worker") as conn, psycopg.connect(named, autocommit=True) as session:
        (worker,) = conn.execute("select striped.register(%s, 'w', 'handlers')", [pool.jobs[0]]).fetchone() or ()
        pool.owner.execute("select striped.enqueue('one', 'r')")
        conn.execute("select striped.upkeep(%s)", [pool.jobs[0]])
        assert conn.execute("select resources from striped.claim(%s, 0, 1, 1, 1)", [worker]).fetchone() == (["r"],)
        pool.owner.execute("update striped.worker set expires_at = '-infinity' where id = %s", [worker])
        conn.execute("select striped.upkeep(%s)", [pool.jobs[0]])
        pool.owner.execute("delete from striped.unit; delete from striped.stripe")
        if victim == "worker":
            with pytest.raises(psycopg.OperationalError):
                session.execute("select")
        else:
            session.execute("select")
