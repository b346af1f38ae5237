"""How much the pool reads: as little of a table with a million units, whatever its statistics say.

They are those of a table that was analyzed while it was new; or, which is worse, while it was empty and had been large:
then the planner takes it that there is nothing, a look through a whole index costs it as little as one by its key, and
so does a loop over two lists, and autovacuum analyzes at such moments where a pool is drained now and then; or as they
are, where most rows are one job's, and a plan may take another's for few.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from tests.support.engines import new_database
from tests.support.reads import Reads

from stripedjob.pool.client.owner import OwnerPool
from stripedjob.pool.types import JobSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

JOB = JobSettings(
    "default", "sync", schedule_limit=4, on_failure="Block", completed_seconds=3600, history_seconds=86400
)
THROTTLED = JobSettings(
    "default", "slow", delegated=True, outstanding_max=3, starts_max=9, period_seconds=1, area_label="x"
)
HELD = JobSettings("default", "held", on_failure="Block")
MANY = JobSettings(
    "default", "many", schedule_limit=4, on_failure="Block", breaker_failures=1000, history_seconds=86400
)
API = Path(__file__).parents[2] / "worker" / "stripedjob" / "pool" / "api" / "v1"
READ_MAX = 60_000  # rows of a table or entries of an index; a pass of upkeep folds 5,000 wakes
FILL = """
insert into striped.unit (job_id, resource)
    select 1, 'r' || n %% 10 from generate_series(1, 500000) n;
insert into striped.unit (job_id, resource) select 1, 's' || n from generate_series(1, 100000) n;
insert into striped.unit (job_id, resource, state, due_at)
    select 1, 'r' || n %% 10, 'delayed', now() + interval '1 h' from generate_series(1, 100000) n;
insert into striped.unit (job_id, resource, state, reason, finished_at)
    select 1, 'r' || n %% 10, 'dead', 'no', now() from generate_series(1, 100000) n;
insert into striped.unit (job_id, resource, state, reason)
    select 1, 'h' || n, 'held', 'no' from generate_series(1, 100000) n;
insert into striped.unit (job_id, resource, state, finished_at)
    select 1, 'r' || n %% 10, 'done', now() - n * interval '1 s' from generate_series(1, 100000) n;
insert into striped.stripe (job_id, resource, rank, state, next_at)
    select 1, 's' || n, now(), case when n %% 2 = 0 then 'ready' else 'waiting' end::striped.stripe_state,
        case when n %% 2 = 1 then 'infinity'::timestamptz end from generate_series(1, 100000) n;
insert into striped.stripe (job_id, resource, rank) select 1, 'r' || n, now() from generate_series(0, 9) n;
insert into striped.stripe (job_id, resource, rank, area)
    select 2, 's' || n, now(), n %% 1000 from generate_series(1, 100000) n;
insert into striped.stripe (job_id, resource, rank, state, next_at)
    select 3, 's' || n, now(), 'waiting', 'infinity' from generate_series(1, 100000) n;
insert into striped.area (job_id, area, tokens, refilled_at) select 2, n, 0, now() from generate_series(1, 50000) n;
insert into striped.wake (job_id, resource, units, importance)
    select 1, 's' || n, 1, 0 from generate_series(1, 100000) n;
insert into striped.dedup (job_id, dedup_id, unit_id, expires_at)
    select 1, n, n, now() + interval '1 h' from generate_series(1, 100000) n;
insert into striped.worker (id, job_id, name, expires_at, working, wants, lacks)
    values (1, 1, 'w', now() + interval '1 h', true, 0, 0), (2, 2, 'w', now() + interval '1 h', true, 9, 9),
    (3, 3, 'w', now() + interval '1 h', true, 0, 0);
insert into striped.history (slot, at, job_id, event, resource, unit)
    select n %% 9, now() + (n - 300000) * interval '0.1 s', 1, 'leased', 'r' || n %% 10, case when n %% 3 > 0 then n end
    from generate_series(1, 300000) n;
insert into striped.unit (job_id, resource, state, due_at)
    select 1, 'd' || n, 'delayed', now() - interval '1 s' from generate_series(1, 2000) n;
insert into striped.stripe (job_id, resource, rank, state, next_at)
    select 1, 'w' || n, now(), 'waiting', now() - interval '1 s' from generate_series(1, 2000) n;
insert into striped.unit (job_id, resource) select 4, 'r' || n / 10 from generate_series(0, 19999) n;
insert into striped.stripe (job_id, resource, rank) select 4, 'r' || n, now() from generate_series(0, 1999) n;
insert into striped.worker (id, job_id, name, expires_at, working)
    values (4, 4, 'w', now() + interval '1 h', true), (5, 4, 'w', now() + interval '1 h', true);
insert into striped.lock (namespace, job_type, resource, token, expires_at)
    select 'default', 'sync', 's' || n, 't', now() + interval '1 h' from generate_series(1, 100000) n;
insert into striped.delegator values (2, 7, 'd', now() + interval '1 h');
"""
LISTED = "select striped.list_units(1, {}, now(), {}, 2000)"
CANCEL = "select * from striped.cancel(1, {}, {}, {}, '', 0, 'ann', '', 1000)"
RECORD = """with l as (
        select resource, fence, row_number() over () % 4 n from striped.stripe where worker_id = 4 and state = 'leased'
    ), u as (
        select l.n, o.id, o.place from l cross join lateral (
            select id, row_number() over (order by resource, id) place from striped.unit where job_id = 4
                and state = 'ready' and resource >= l.resource and resource <= l.resource order by resource, id limit 10
        ) o
    )
    select striped.settle(4, 4, {}, array_agg(resource), array_agg(fence), array_agg(case n when 0 then 0 else 10 end),
        array_agg(('{{wait,keep,ready,idle}}'::text[])[n + 1]), array_agg(60::float8),
        (select array_agg(id) from u where n > 0), (select json_agg(json_build_object('id', id, 'to', 'ready',
            'attempts', 1, 'crashes', 0, 'after', 60, 'reason', 'no', 'trace', '', 'kind', 'no'))
            from u where n = 0 and place = 1), 1, 1, 0) from l"""
LOCKS = """select striped.{} from (
    select array_agg('s' || n), array_agg('t'::text) from generate_series(1, 1000) n) n(names, tokens)"""
MARK = "update striped.unit set cancelled = 'no' where id < 20000"
CALLS: dict[str, str] = {
    "poll": "select * from striped.poll(1)",
    "job_status of one": "select * from striped.job_status where id = 2",  # beside one that has nearly all wakes
    "explain of one": "select striped.explain(2, 's7')",
    "page_jobs of one": "select striped.page_jobs('default', 'many', 1)",  # `slow`, whose id is 2
    "page_job of two": "select striped.page_job(2), striped.page_job(3)",
    "upkeep": "select striped.upkeep(1)",
    "claim": "select * from striped.claim(1, 0, 64, 100, 1000000)",
    "upkeep of what was cancelled": f"{MARK}; select striped.upkeep(1)",
    "claim beside it": "select * from striped.claim(1, 0, 64, 100, 1000000)",
    "renew": "select striped.renew(1, '{1,2,3}')",
    "resume": "select striped.resume(1, 1, '{1,2,3}')",
    "settle": """select striped.settle(1, 1, 9, array_agg(resource), array_agg(fence), array_agg(0),
        array_agg('ready'::text), array_agg(null::float8), '{}', null, 0, 0, 0)
        from striped.stripe where worker_id = 1 and state = 'leased'""",
    "claim of many": "select * from striped.claim(4, 0, 1000, 9, 1000000)",
    "renew of many": "select striped.renew(4, array_agg(n)) from generate_series(1, 1000) n",
    "settle of many": RECORD.format(1),
    "claim of many beside them": "select * from striped.claim(4, 0, 500, 10, 1000000)",
    "settle of many again": RECORD.format(2),
    "complete": "select striped.complete(4, 4, 'r7', 0, '{}')",
    "keep_up": "select striped.keep_up(4)",
    "claim of more": "select * from striped.claim(4, 0, 300, 10, 1000000)",
    "resume without them": "select striped.resume(4, 1, '{}')",
    "claim of what was given back": "select * from striped.claim(5, 0, 1000, 10, 1000000)",
    "reap of many": "update striped.worker set expires_at = '-infinity' where id = 5; select striped.upkeep(4)",
    "acquire locks": LOCKS.format("acquire_locks('default', 'sync', n.names, n.tokens, 1000)"),
    "release locks": LOCKS.format("release_locks('default', 'sync', n.names, n.tokens)"),
    "look_lock": "select striped.look_lock('default', 'sync', 's7')",
    "flush locks": "select striped.flush_locks('default', 'sync', 1000)",
    "clean": "select striped.clean(1)",
    "delegate": "select striped.delegate(2, 7)",
    "clean of areas": "select striped.clean(2)",
    "lead and resign": "select striped.lead(3, 'd'); select striped.resign(3, 1)",
    "what is known of jobs": """select striped.job_id('default', 'sync'), striped.job_settings('default', 'sync'),
        striped.page_name(1), striped.schema_version(), (select count(*) from striped.job_statuses('{1,2}')),
        (select count(*) from striped.workers(1))""",
    "payloads": "select striped.payloads(1, '{1,2,3}')",
    "a schedule in parts": """select striped.schedule_begin(1, 'cron', now()),
        striped.schedule_put(1, now(), 0, '{s7}', '{1}'), striped.schedule_end(1, now())""",
    "register": "select striped.register(3, 'w')",
    "notify_idle": "select striped.notify_idle(1, 5)",
    "tend": "select * from striped.tend('{1,2}')",
    "measures": "select * from striped.measures('{1,2}')",
    "times": "select striped.times(1, 60)",
    "note_times": "select striped.note_times(1, '{1}', 1, '{1}', 1)",
    "job_status": "select * from striped.job_status",
    "is_empty": "select striped.is_empty(1)",
    "is_empty of what waits for a person": "select striped.is_empty(3)",
    "waiting": "select * from striped.waiting(1) a, striped.waiting(2) b, striped.waiting(3) c",
    "explain": "select striped.explain(1, 'r3'), striped.explain(1, 's7'), striped.explain(2, 's7')",
    "page_jobs": "select striped.page_jobs('', '', 20)",
    "page_job": "select striped.page_job(1), striped.page_job(2), striped.page_job(3)",
    "page_worker": "select striped.page_worker(1, 1)",
    "page_resource": "select striped.page_resource(1, 'r3'), striped.page_resource(1, 's7')",
    "page_unit": "select striped.page_unit(1, 500000)",
    "page_aside of the dead": "select striped.page_aside(1, 'dead', null, 'r5', 700000, 50)",
    "page_aside of one reason": "select striped.page_aside(1, 'dead', 'x', '', 0, 50)",
    "page_aside of the held": "select striped.page_aside(1, 'held', null, '', 0, 50)",
    "page_choose": "select striped.page_choose(1, 'held', md5('no'), null, 'h5', 0, 2000)",
    "page_choose of one": "select striped.page_choose(1, 'dead', null, 'r3', 'r3', 0, 2000)",
    "page_find": "select striped.page_find(null, 'r3', 500000), striped.page_find(1, 'nobody', null)",
    "resource_history": "select striped.resource_history(1, 'r3', 150000, 1000)",
    "unit_history": "select striped.unit_history(1, 7, null, 1000), striped.unit_history(1, 299999, null, 1000)",
    "page_unit that is gone": "select striped.page_unit(1, 299998)",
    "page_find of a beginning": "select striped.page_find(null, 'r', null), striped.page_find(1, 's', 299998)",
    "outlook": "select striped.outlook(1, 5), striped.outlook(2, 5), striped.outlook(3, 5)",
    "cancellations": "select * from striped.cancellations(1)",
    "list": LISTED.format("null, null, null", "'', 0"),
    "list from the middle": LISTED.format("null, null, null", "'r5', 1000"),
    "list ready": LISTED.format("'ready', null, null", "'s5', 0"),
    "list waiting": LISTED.format("'waiting', null, null", "'s5', 0"),
    "list leased": LISTED.format("'leased', null, null", "'', 0"),
    "list delayed": LISTED.format("'delayed', null, null", "'r3', 7"),
    "list held": LISTED.format("'held', null, null", "'h3', 7"),
    "list dead": LISTED.format("'dead', null, 'yes'", "'r3', 7"),
    "list done": LISTED.format("'done', null, null", "now()::text, 7"),
    "list a resource": LISTED.format("null, 's7', null", "'', 0"),
    "list a resource's waiting": LISTED.format("'waiting', 's7', null", "'', 0"),
    "unit_states": "select * from striped.unit_states(1, '{1,2,3}')",
    "enqueue": "select striped.enqueue('sync', 'r3', '1', dedup_id => 'new')",
    "enqueue of what is there": "select striped.enqueue('sync', 'r3', '1', dedup_id => '7')",
    "enqueue of many": """select striped.enqueue_rows('default', 'sync', array_agg('s' || n), array_agg('1'::text),
        array_agg(0), array_agg(null::timestamptz), array_agg('many ' || n)) from generate_series(1, 1000) n""",
    "revive": "select striped.revive(1, 'dead', null, null, 1000)",
    "revive one": "select striped.revive(1, 'held', 'h7', null, 1000)",
    "purge": "select striped.purge(1, 'held', null, null, 1000)",
    "cancel": CANCEL.format("'ready'", "null", "null"),
    "cancel delayed": CANCEL.format("'delayed'", "null", "null"),
    "cancel of one resource": CANCEL.format("'held'", "'h8'", "null"),
    "cancel by ids": CANCEL.format("null", "null", "'{1,2,3}'"),
    "retry_now": "select * from striped.retry_now(1, null, null, 'r5', 9, 1000)",
    "retry_now of one resource": "select * from striped.retry_now(1, 'r3', null, '', 0, 1000)",
    "retry_resources_now": "select * from striped.retry_resources_now(1, null, null, 's5', 1000)",
    "retry_resources_now by ids": "select * from striped.retry_resources_now(1, null, '{1,2,3}', '', 1000)",
    "pause_job": "select striped.pause_job(1, 'ann', '')",
    "resume_job": "select striped.resume_job(1)",
    "pause_resource": "select striped.pause_resource(1, 's9', 'ann', ''), striped.pause_resource(2, 's9', 'ann', '')",
    "resume_resource": "select striped.resume_resource(1, 's9'), striped.resume_resource(2, 's9')",
    "fire": "select striped.fire(1, 'cron', now(), null)",
    "apply_job": """select striped.apply_job('default', 'sync', 1, 4, 0, 30, 5, 'Skip', 3600, 604800,
        p_history_seconds => 86400)""",
    "refit": "select striped.upkeep(1)",
    "leave": "select striped.leave(1)",
    "reap": "update striped.worker set expires_at = '-infinity'; select striped.upkeep(2)",
    "sweep": "select striped.sweep_orphans(2)",
    "clear": "select striped.clear(1, 1000)",
}


STATISTICS = {
    "of new tables": "select",  # `analyze` came before they were filled
    "of emptied tables": """update pg_class set reltuples = 0, relpages = greatest(1, pg_relation_size(oid) / 8192),
        relallvisible = case when relkind = 'r' then greatest(1, pg_relation_size(oid) / 8192) else 0 end
        where relnamespace = 'striped'::regnamespace and relkind in ('r', 'i')""",
    "of the tables as they are": "analyze",
}


@pytest.fixture(scope="module")
def filled(postgres_url: str) -> Iterator[str]:
    """The name of a database whose tables were analyzed when they were new, and have many rows."""
    with new_database(postgres_url) as url:
        with OwnerPool.open(url) as pool:
            pool.migrate()
            assert [pool.apply(job) for job in (JOB, THROTTLED, HELD, MANY)] == [1, 2, 3, 4]
            pool.conn.execute("analyze")  # of empty tables; and these statistics stay
            history = tuple(f"history_{place}" for place in range(9))
            for table in ("unit", "stripe", "wake", "dedup", "area", "lock", *history):
                pool.conn.execute(f"alter table striped.{table} set (autovacuum_enabled = off)".encode())
            pool.conn.execute("set session_replication_role = replica")
            with pool.conn.transaction():
                for statement in FILL.replace("%%", "%").split(";\n"):
                    pool.conn.execute(statement.encode())
            pool.conn.execute("reset session_replication_role")
            pool.conn.execute("update striped.turn set at = '-infinity' where kind = 'clean'")
        yield urlsplit(url).path[1:]


@pytest.fixture(scope="module", params=STATISTICS)
def pool(postgres_url: str, filled: str, request: pytest.FixtureRequest) -> Iterator[OwnerPool]:
    with new_database(postgres_url, filled) as url, OwnerPool.open(url) as pool:
        pool.conn.execute(STATISTICS[request.param].encode())
        pool.conn.execute("set plan_cache_mode = force_generic_plan")  # as the sessions of workers have it
        yield pool


@pytest.fixture(scope="module")
def reads(pool: OwnerPool) -> Reads:
    return Reads(pool.conn)


@pytest.mark.parametrize("name", CALLS)
def test_no_call_reads_a_whole_table(pool: OwnerPool, reads: Reads, name: str) -> None:
    *before, call = CALLS[name].split("; ")
    for statement in before:
        pool.conn.execute(statement.encode())
    assert not {place: rows for place, rows in reads.of(call).items() if rows > READ_MAX}
    assert not reads.locked_in_vain  # as the planner would have it: tests/isolation/test_patience.py has who waits


def test_every_routine_is_called() -> None:
    calls = " ".join(CALLS.values())
    routines = (line for file in API.glob("*.sql") for line in file.read_text().splitlines())
    names = {
        found[1] for line in routines if (found := re.match(r"create or replace function @extschema@\.(\w+)\(", line))
    }
    assert not {name for name in names if f"striped.{name}(" not in calls}
