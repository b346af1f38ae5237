"""Roles that were granted one job: every function of the API asks; see EXAMPLES for a new one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql
from tests.support.engines import new_database
from tests.support.rights import Pool, granted, new_role, outcome, pool_of

from stripedjob.pool.client.owner import OwnerPool
from stripedjob.pool.install.roles import PAYLOADS, ROLES, kept, missing, revoke
from stripedjob.pool.install.scripts import published

if TYPE_CHECKING:
    from collections.abc import Iterator

PARTS = {one.name: one.part for one in published()}


@pytest.fixture(scope="module", params=["superuser", "ordinary owner"])
def pool(request: pytest.FixtureRequest, postgres_url: str) -> Iterator[Pool]:
    with new_database(postgres_url) as url, pool_of(url, ordinary=request.param == "ordinary owner") as made:
        yield made


# How each function of the API that is about one job is called: {job} is its id, {name} its type, {worker} one of it.
EXAMPLES = {
    "acquire_locks": "select striped.acquire_locks('default', '{name}', '{{r}}', '{{t}}', 1)",
    "apply_job": "select striped.apply_job('default', '{name}', 9, 1, 0, 30, 5, 'Skip', 0, 0)",
    "cancel": "select striped.cancel({job}, 'ready', null, null, '', 0, 'ann', '', 1)",
    "cancellations": "select * from striped.cancellations({worker})",
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
    "list_units": "select striped.list_units({job}, null, null, null, null, '', 0, 1)",
    "measures": "select striped.measures('{{{job}}}')",
    "note_times": "select striped.note_times({job}, '{{1}}', 1, '{{1}}', 1)",
    "outlook": "select striped.outlook({job}, 1)",
    "pause_job": "select striped.pause_job({job}, 'ann', '')",
    "pause_resource": "select striped.pause_resource({job}, 'r', 'ann', '')",
    "payloads": "select striped.payloads({job}, '{{1}}')",
    "poll": "select striped.poll({worker})",
    "purge": "select striped.purge({job}, 'held', null, null, 1)",
    "register": "select striped.register({job}, 'w')",
    "release_locks": "select striped.release_locks('default', '{name}', '{{r}}', '{{t}}')",
    "renew": "select striped.renew({worker}, '{{}}')",
    "resign": "select striped.resign({job}, 1)",
    "resume": "select striped.resume({worker}, 1, '{{}}')",
    "resume_job": "select striped.resume_job({job})",
    "resume_resource": "select striped.resume_resource({job}, 'r')",
    "resource_history": "select striped.resource_history({job}, 'r', null, 9)",
    "retry_now": "select striped.retry_now({job}, null, null, '', 0, 1)",
    "retry_resources_now": "select striped.retry_resources_now({job}, null, null, '', 1)",
    "revive": "select striped.revive({job}, 'held', null, null, 1)",
    "schedule_begin": "select striped.schedule_begin({job}, 's', now())",
    "schedule_end": "select striped.schedule_end({job}, now())",
    "schedule_put": "select striped.schedule_put({job}, now(), 0, null, null)",
    "settle": "select striped.settle({job}, {worker}, 1, '{{}}', '{{}}', '{{}}', null, null, '{{}}', null, 0, 0, 0)",
    "tend": "select striped.tend('{{{job}}}')",
    "times": "select striped.times({job})",
    "unit_history": "select striped.unit_history({job}, 1, null, 9)",
    "unit_states": "select striped.unit_states({job}, '{{1}}')",
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


def test_a_limited_viewer_sees_its_jobs_alone_and_a_limited_operator_makes_its_own(pool: Pool) -> None:
    with new_role(pool.admin) as limited:
        granted(pool.owner, "viewer", limited, job=("default", "one"))
        granted(pool.owner, "operator", limited, job=("default", "new"))
        with pool.connect(limited) as conn:
            seen = conn.execute("select job_type from striped.job_statuses()").fetchall()
            made = EXAMPLES["apply_job"].format(name="new")
            assert (seen, outcome(conn, made)) == ([("one",)], "done")
        pool.owner.execute("delete from striped.permission")


def test_a_worker_of_one_job_cannot_speak_for_one_of_another(pool: Pool, workers: tuple[int, int]) -> None:
    with new_role(pool.admin) as limited, pool.connect(limited) as conn:
        granted(pool.owner, "worker", limited, job=("default", "one"))
        conn.execute(EXAMPLES["settle"].format(job=pool.jobs[0], worker=workers[1]).encode())
        pool.owner.execute("delete from striped.permission")
    found = pool.owner.execute("select batch from striped.worker where id = %s", [workers[1]]).fetchone()
    assert found == (0,)


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
        with OwnerPool.open(pool.url) as rights:
            rights.revoke("operator", role)
            assert missing(pool.admin, "striped", "worker", role) == []
            assert missing(pool.admin, "striped", "viewer", role)  # a part of the operator
            rights.revoke("worker", role)
        assert len(missing(pool.admin, "striped", "worker", role)) == sum(
            part in ROLES["worker"] for part in PARTS.values()
        )


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
