"""Who may call what: every role of the pool against every function, table and type that is in its schema.

What is there is read from the catalogue, so that nothing new is forgotten: see EXAMPLES for a new function of the API.
"""

from __future__ import annotations

import re
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import errors, sql
from tests.support.engines import new_database
from tests.support.rights import as_role, granted, new_role

from stripedjob.pool.client.admin import PoolAdmin
from stripedjob.pool.client.rights import PoolRights
from stripedjob.pool.install.migrate import migrate
from stripedjob.pool.install.roles import PAYLOADS, ROLES, kept, missing, revoke
from stripedjob.pool.install.scripts import published
from stripedjob.pool.types import JobSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

PARTS = {one.name: one.part for one in published()}
CALLERS = {**ROLES, "nobody": (), "viewer with payloads": (*ROLES["viewer"], PAYLOADS)}
FUNCTIONS = """
select proname, prorettype = 'trigger'::regtype, array(select format_type(t, null) from unnest(proargtypes) t),
    prosecdef, proconfig from pg_proc where pronamespace = 'striped'::regnamespace"""
TRIED = {
    "r": ("select from {}", "insert into {} default values", "delete from {}", "truncate {}", "lock table {}"),
    "v": ("select from {}",),
    "S": ("select nextval('{}')", "select setval('{}', 1)", "select last_value from {}"),
}


@dataclass(frozen=True)
class Pool:
    """A pool with two jobs, and a connection for each role: of the pool's, of nobody, and of its owner."""

    url: str
    admin: psycopg.Connection  # a superuser's
    owner: psycopg.Connection
    jobs: tuple[int, int]
    roles: dict[str, str]

    def connect(self, role: str) -> psycopg.Connection:
        return psycopg.connect(as_role(self.url, self.roles.get(role, role)), autocommit=True)


@contextmanager
def pool_of(url: str, *, ordinary: bool) -> Iterator[Pool]:
    """Make a pool that belongs to an ordinary role, or to a superuser; nobody may have temporary tables."""
    with psycopg.connect(url, autocommit=True) as admin, ExitStack() as stack:
        name = sql.Identifier(admin.info.dbname)
        admin.execute(sql.SQL("revoke temporary on database {} from public").format(name))
        owner = admin
        if ordinary:
            role = stack.enter_context(new_role(admin))
            admin.execute(sql.SQL("grant create on database {} to {}").format(name, sql.Identifier(role)))
            owner = stack.enter_context(psycopg.connect(as_role(url, role), autocommit=True))
        migrate(owner)
        pool = PoolAdmin(owner, "striped")
        jobs = (pool.apply(JobSettings("default", "one")), pool.apply(JobSettings("default", "two")))
        roles = {}
        for caller in CALLERS:
            roles[caller] = stack.enter_context(new_role(admin))
            if caller in ROLES:
                granted(owner, caller, roles[caller])
        granted(owner, "viewer", roles["viewer with payloads"], payloads=True)
        yield Pool(url, admin, owner, jobs, roles)


@pytest.fixture(scope="module", params=["superuser", "ordinary owner"])
def pool(request: pytest.FixtureRequest, postgres_url: str) -> Iterator[Pool]:
    with new_database(postgres_url) as url, pool_of(url, ordinary=request.param == "ordinary owner") as made:
        yield made


def outcome(conn: psycopg.Connection, statement: str | sql.Composed, values: Any = None) -> str:
    """Run it and undo it: `refused`, with Postgres' words, or what else came of it."""
    class_ = ""
    with conn.transaction(force_rollback=True):
        try:
            conn.execute(statement.encode() if isinstance(statement, str) else statement, values)
        except errors.InsufficientPrivilege as error:
            class_ = f"refused: {error.diag.message_primary}"
        except psycopg.Error as error:
            class_ = f"failed: {error.sqlstate} {error.diag.message_primary}"
        if class_:
            raise psycopg.Rollback
    return class_ or "done"


# Everything that is there


@pytest.mark.parametrize("caller", CALLERS)
def test_each_function_is_for_its_roles_alone(pool: Pool, caller: str) -> None:
    wrong = []
    with pool.connect(caller) as conn:
        for name, is_trigger, types, _, _ in pool.admin.execute(FUNCTIONS).fetchall():
            nulls = ", ".join(f"null::{one}" for one in types)
            found = outcome(conn, f"select striped.{name}({nulls})")
            refused = f"refused: permission denied for {'schema striped' if caller == 'nobody' else f'function {name}'}"
            if not is_trigger and (found == refused) == (PARTS.get(name) in CALLERS[caller]):
                wrong.append(f"{name}: {found}")
    assert not wrong


@pytest.mark.parametrize("caller", CALLERS)
def test_no_table_view_sequence_or_type_is_for_anybody_but_the_owner(pool: Pool, caller: str) -> None:
    wrong = []
    query = """select relname, relkind::text from pg_class
        where relnamespace = 'striped'::regnamespace and relkind in ('r', 'v', 'S', 'p', 'm')"""
    with pool.connect(caller) as conn:
        for name, kind in pool.admin.execute(query).fetchall():
            found = [outcome(conn, one.format(f"striped.{name}")) for one in TRIED[kind]]
            wrong += [f"{name}: {one}" for one in found if not one.startswith("refused")]
    usable = pool.admin.execute(
        "select typname from pg_type where typnamespace = 'striped'::regnamespace and typtype = 'e'"
        " and has_type_privilege(%s, oid, 'usage')",
        [pool.roles[caller]],
    )
    assert not wrong + usable.fetchall()


def test_functions_of_the_api_run_as_the_owner_with_a_path_of_postgres_own(pool: Pool) -> None:
    as_caller = {one.name for one in published() if one.as_caller}
    for name, _, _, as_owner, settings in pool.admin.execute(FUNCTIONS).fetchall():
        assert as_owner == ((name in PARTS and name not in as_caller) or name == "call_somebody"), name
        assert settings == (["search_path=pg_catalog, pg_temp"] if as_owner else None), name


def test_the_owner_may_do_everything_and_what_is_missing_is_named(pool: Pool) -> None:
    for role in ROLES:
        assert missing(pool.admin, "striped", role, pool.owner.info.user) == []
        assert missing(pool.admin, "striped", role, pool.roles[role]) == []
    lacks = missing(pool.admin, "striped", "viewer", pool.roles["nobody"])
    assert lacks[0] == "usage on schema striped"
    assert 'execute on function "striped".explain(int, text)' in lacks
    assert len(missing(pool.admin, "striped", "worker", pool.roles["delegator"])) > 10


# One job alone

# How each function of the API that is about one job is called: {job} is its id, {name} its type, {worker} one of it.
EXAMPLES = {
    "acquire_locks": "select striped.acquire_locks('default', '{name}', '{{r}}', '{{t}}', 1)",
    "apply_job": "select striped.apply_job('default', '{name}', 9, 1, 0, 30, 5, 'Skip', 0, 0)",
    "claim": "select striped.claim({worker}, 0, 1, 1, 1)",
    "clean": "select striped.clean({job})",
    "clear": "select striped.clear({job}, 1)",
    "complete": "select striped.complete({job}, {worker}, 'r', 1, '{{1}}')",
    "delegate": "select striped.delegate({job}, 1)",
    "enqueue": "select striped.enqueue('{name}', 'r')",
    "enqueue_rows": "select striped.enqueue_rows('default', '{name}', '{{r}}', null, null, null, null)",
    "explain": "select striped.explain({job}, 'r')",
    "fire": "select striped.fire({job}, 's', now(), null)",
    "flush_locks": "select striped.flush_locks('default', '{name}', 1)",
    "is_empty": "select striped.is_empty({job})",
    "job_settings": "select striped.job_settings('default', '{name}')",
    "job_statuses": "select striped.job_statuses('{{{job}}}')",
    "keep_up": "select striped.keep_up({job})",
    "lead": "select striped.lead({job}, 'd')",
    "leave": "select striped.leave({worker})",
    "look_lock": "select striped.look_lock('default', '{name}', 'r')",
    "page_aside": "select striped.page_aside({job}, 'dead', null, '', 0, 1)",
    "page_choose": "select striped.page_choose({job}, 'dead', null, null, '', 0, 1)",
    "page_job": "select striped.page_job({job})",
    "page_name": "select striped.page_name({job})",
    "page_resource": "select striped.page_resource({job}, 'r')",
    "page_unit": "select striped.page_unit({job}, 1)",
    "page_worker": "select striped.page_worker({job}, {worker})",
    "payloads": "select striped.payloads({job}, '{{1}}')",
    "poll": "select striped.poll({worker})",
    "purge": "select striped.purge({job}, 'held', null, null, 1)",
    "register": "select striped.register({job}, 'w')",
    "release_locks": "select striped.release_locks('default', '{name}', '{{r}}', '{{t}}')",
    "renew": "select striped.renew({worker}, '{{}}')",
    "resign": "select striped.resign({job}, 1)",
    "resume": "select striped.resume({worker}, 1, '{{}}')",
    "revive": "select striped.revive({job}, 'held', null, null, 1)",
    "schedule_begin": "select striped.schedule_begin({job}, 's', now())",
    "schedule_end": "select striped.schedule_end({job}, now())",
    "schedule_put": "select striped.schedule_put({job}, now(), 0, null, null)",
    "settle": "select striped.settle({job}, {worker}, 1, '{{}}', '{{}}', '{{}}', null, null, '{{}}', null, 0, 0, 0)",
    "tend": "select striped.tend('{{{job}}}')",
    "upkeep": "select striped.upkeep({job})",
    "waiting": "select striped.waiting({job})",
    "workers": "select striped.workers({job})",
}
OF_NO_JOB = {"schema_version", "job_id", "page_jobs", "page_find"}  # the last two leave out what may not be seen


@pytest.fixture(scope="module")
def workers(pool: Pool) -> tuple[int, int]:
    ids = [pool.owner.execute("select striped.register(%s, 'w')", [job]).fetchone() for job in pool.jobs]
    return ids[0][0], ids[1][0]  # type: ignore[index]


def call_of(pool: Pool, workers: tuple[int, int], name: str, which: int) -> str:
    assert name in EXAMPLES, (
        f"say in EXAMPLES how {name}() is called, so that it is seen to ask for which job it may be"
    )
    return EXAMPLES[name].format(job=pool.jobs[which], name=("one", "two")[which], worker=workers[which])


@pytest.mark.parametrize("name", [name for name in PARTS if name not in OF_NO_JOB])
def test_who_was_granted_one_job_can_do_nothing_with_another(pool: Pool, workers: tuple[int, int], name: str) -> None:
    calls = [call_of(pool, workers, name, which) for which in (0, 1)]
    has_payloads = PARTS[name] == PAYLOADS
    role = "viewer" if has_payloads else next(one for one, parts in ROLES.items() if PARTS[name] in parts)
    free = "viewer with payloads" if has_payloads else role
    with new_role(pool.admin) as limited, pool.connect(limited) as conn, pool.connect(free) as other:
        granted(pool.owner, role, limited, job=("default", "one"), payloads=has_payloads)
        try:
            assert outcome(conn, calls[0]) == "done"
            assert outcome(conn, calls[1]) == "refused: permission denied for this job"
            assert outcome(other, calls[1]) == "done"
            assert outcome(pool.owner, calls[1]) == "done"
        finally:
            pool.owner.execute("delete from striped.permission")


def test_the_pages_lists_have_the_jobs_alone_that_a_limited_viewer_may_see(pool: Pool) -> None:
    for job in pool.jobs:
        pool.owner.execute("insert into striped.stripe (job_id, resource, rank) values (%s, 'same', now())", [job])
    jobs = "select one ->> 'job_type' from json_array_elements({} -> 'jobs') one"
    with new_role(pool.admin) as limited, pool.connect(limited) as conn, pool.connect("viewer") as other:
        granted(pool.owner, "viewer", limited, job=("default", "one"))
        try:
            for call in ("striped.page_jobs('', '', 20)", "striped.page_find(null, 'same', null)"):
                assert conn.execute(jobs.format(call).encode()).fetchall() == [("one",)]
                assert other.execute(jobs.format(call).encode()).fetchall() == [("one",), ("two",)]
        finally:
            pool.owner.execute("delete from striped.permission")
            pool.owner.execute("delete from striped.stripe")


def test_a_limited_viewer_sees_its_jobs_alone_and_a_limited_operator_makes_its_own(pool: Pool) -> None:
    with new_role(pool.admin) as limited:
        granted(pool.owner, "viewer", limited, job=("default", "one"))
        granted(pool.owner, "operator", limited, job=("default", "new"))
        with pool.connect(limited) as conn:
            seen = conn.execute("select job_type from striped.job_statuses()").fetchall()
            made = EXAMPLES["apply_job"].format(name="new")
            assert (seen, outcome(conn, made)) == ([("one",)], "done")
        pool.owner.execute("delete from striped.permission")


@pytest.fixture
def limited(pool: Pool) -> Iterator[str]:
    """A role that may enqueue for one job."""
    with new_role(pool.admin) as role:
        granted(pool.owner, "enqueuer", role, job=("default", "one"))
        yield role
        pool.owner.execute("delete from striped.permission")


ONE, TWO = "select striped.enqueue('one', 'r')", "select striped.enqueue('two', 'r')"
REFUSED = "refused: permission denied for this job"


def run_as(conn: psycopg.Connection, role: str) -> None:
    conn.execute(sql.SQL("set role {}").format(sql.Identifier(role)))


def test_members_of_a_limited_role_are_limited(pool: Pool, limited: str) -> None:
    with new_role(pool.admin) as member:
        pool.admin.execute(sql.SQL("grant {} to {}").format(sql.Identifier(limited), sql.Identifier(member)))
        with pool.connect(member) as conn:
            assert (outcome(conn, ONE), outcome(conn, TWO)) == ("done", REFUSED)
            run_as(conn, limited)
            assert (outcome(conn, ONE), outcome(conn, TWO)) == ("done", REFUSED)
        run_as(pool.admin, limited)
        try:
            assert (outcome(pool.admin, ONE), outcome(pool.admin, TWO)) == ("done", REFUSED)
        finally:
            pool.admin.execute("reset role")


def test_a_limited_role_gets_no_further_through_somebody_else(pool: Pool, limited: str) -> None:
    """Its own function with its own rights, called by somebody who may call nothing of the pool."""
    pool.admin.execute(
        sql.SQL("create schema trick authorization {0}; grant usage on schema trick to public").format(
            sql.Identifier(limited)
        )
    )
    with pool.connect(limited) as conn, pool.connect("nobody") as other:
        conn.execute(
            "create function trick.put(text) returns bigint language sql security definer"
            " as $$ select striped.enqueue($1, 'r') $$"
        )
        assert outcome(conn, "select trick.put('one')") == "done"
        assert outcome(conn, "select trick.put('two')") == REFUSED
        assert outcome(other, "select trick.put('two')") == REFUSED
    pool.admin.execute("drop schema trick cascade")


def test_a_job_that_is_taken_back_opens_nothing(pool: Pool, limited: str) -> None:
    with pool.connect(limited) as conn:
        for statement in revoke("striped", "enqueuer", limited, job=("default", "one")):
            pool.owner.execute(statement.encode())
        assert (outcome(conn, ONE), outcome(conn, TWO)) == (REFUSED, REFUSED)
        for statement in revoke("striped", "enqueuer", limited):
            pool.owner.execute(statement.encode())
        assert outcome(conn, ONE) == "refused: permission denied for function enqueue"
        granted(pool.owner, "enqueuer", limited)
        assert (outcome(conn, ONE), outcome(conn, TWO)) == ("done", "done")


def test_what_a_role_needs_for_another_stays(pool: Pool) -> None:
    with new_role(pool.admin, "worker", "operator", "viewer") as role:
        assert kept(pool.admin, "striped", "operator", role) >= {"common", "schedule", "upkeep", "worker", "locks"}
        with PoolRights.open(pool.url) as rights:
            rights.revoke("operator", role)
            assert missing(pool.admin, "striped", "worker", role) == []
            assert missing(pool.admin, "striped", "viewer", role)  # a part of the operator
            rights.revoke("worker", role)
        assert len(missing(pool.admin, "striped", "worker", role)) == sum(
            part in ROLES["worker"] for part in PARTS.values()
        )


# As an attacker

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
