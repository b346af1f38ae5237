"""How much the pool reads: as little of a table with a million units, whose statistics are those of an empty one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from tests.support.engines import new_database

from stripedjob.pool.client.owner import OwnerPool
from stripedjob.pool.types import JobSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

JOB = JobSettings(
    "default", "sync", schedule_limit=4, on_failure="Block", completed_seconds=3600, history_seconds=86400
)
THROTTLED = JobSettings(
    "default", "slow", delegated=True, outstanding_max=3, starts_max=9, period_seconds=1, area_label="x"
)
HELD = JobSettings("default", "held", on_failure="Block")
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
insert into striped.delegator values (2, 7, 'd', now() + interval '1 h');
"""
STATISTICS = """
select relname::text || ' by ' || coalesce(indexrelname, 'itself'), read from (
    select relname, null as indexrelname, seq_tup_read as read from pg_stat_user_tables where schemaname = 'striped'
    union all select relname, indexrelname, idx_tup_read from pg_stat_user_indexes where schemaname = 'striped'
    union all select relname, 'index', idx_tup_fetch from pg_stat_user_tables where schemaname = 'striped'
) s"""
LISTED = "select striped.list_units(1, {}, now(), {}, 2000)"
CANCEL = "select * from striped.cancel(1, {}, {}, {}, '', 0, 'ann', '', 1000)"
MARK = "update striped.unit set cancelled = 'no' where id < 20000"
CALLS: dict[str, str] = {
    "poll": "select * from striped.poll(1)",
    "upkeep": "select striped.upkeep(1)",
    "claim": "select * from striped.claim(1, 0, 64, 100, 1000000)",
    "upkeep of what was cancelled": f"{MARK}; select striped.upkeep(1)",
    "claim beside it": "select * from striped.claim(1, 0, 64, 100, 1000000)",
    "renew": "select striped.renew(1, '{1,2,3}')",
    "resume": "select striped.resume(1, 1, '{1,2,3}')",
    "settle": """select striped.settle(1, 1, 9, array_agg(resource), array_agg(fence), array_agg(0),
        array_agg('ready'::text), array_agg(null::float8), '{}', null, 0, 0, 0)
        from striped.stripe where worker_id = 1 and state = 'leased'""",
    "clean": "select striped.clean(1)",
    "delegate": "select striped.delegate(2, 7)",
    "clean of areas": "select striped.clean(2)",
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


@pytest.fixture(scope="module")
def pool(postgres_url: str) -> Iterator[OwnerPool]:
    with new_database(postgres_url) as url, OwnerPool.open(url) as pool:
        pool.migrate()
        assert [pool.apply(job) for job in (JOB, THROTTLED, HELD)] == [1, 2, 3]
        pool.conn.execute("analyze")  # of empty tables; and these statistics stay
        history = tuple(f"history_{place}" for place in range(9))
        for table in ("unit", "stripe", "wake", "dedup", "area", *history):
            pool.conn.execute(f"alter table striped.{table} set (autovacuum_enabled = off)".encode())
        pool.conn.execute("set session_replication_role = replica")
        with pool.conn.transaction():
            for statement in FILL.replace("%%", "%").split(";\n"):
                pool.conn.execute(statement.encode())
        pool.conn.execute("reset session_replication_role")
        pool.conn.execute("update striped.turn set at = '-infinity' where kind = 'clean'")
        yield pool


@pytest.fixture(scope="module")
def read(pool: OwnerPool) -> Callable[[], dict[str, int]]:
    def reading() -> dict[str, int]:
        pool.conn.execute("select pg_stat_force_next_flush()")
        with psycopg.connect(pool.conn.info.dsn, autocommit=True) as other:
            return dict(other.execute(STATISTICS).fetchall())

    return reading


@pytest.mark.parametrize("name", CALLS)
def test_no_call_reads_a_whole_table(pool: OwnerPool, read: Callable[[], dict[str, int]], name: str) -> None:
    before = read()
    for statement in CALLS[name].split("; "):
        pool.conn.execute(statement.encode())
    after = read()
    much = {place: rows - before[place] for place, rows in after.items() if rows - before[place] > READ_MAX}
    assert not much


READS = {
    "job_status": "select * from striped.job_status where id = 2",
    "explain": "select striped.explain(2, 's7')",
    "page_jobs": "select striped.page_jobs('default', 'held', 1)",  # `slow`, whose id is 2
    "page_job": "select striped.page_job(2), striped.page_job(3)",
}


@pytest.fixture(scope="module")
def known(pool: OwnerPool) -> None:
    """Statistics as they are, where one job has nearly all wakes: a plan may take the others' for few."""
    pool.conn.execute("set session_replication_role = replica")
    pool.conn.execute(
        """insert into striped.wake (job_id, resource, units, importance)
        select 1, 's' || n, 1, 0 from generate_series(1, 100000) n"""
    )
    pool.conn.execute("reset session_replication_role")
    pool.conn.execute("vacuum analyze")


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("name", READS)
def test_no_read_of_one_job_goes_through_anothers_rows(
    pool: OwnerPool, read: Callable[[], dict[str, int]], name: str
) -> None:
    before = read()
    pool.conn.execute(READS[name].encode())
    after = read()
    assert not {place: rows - before[place] for place, rows in after.items() if rows - before[place] > READ_MAX}
