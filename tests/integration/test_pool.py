"""The pool's contract, on a real Postgres, as the runtime uses it."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from stripedjob.pool.errors import PoolError, PoolSchemaError, PoolUnreachableError, WorkerLostError
from stripedjob.pool.migrate import migrate, migrations, teardown, version
from stripedjob.pool.types import Batch, Failure, Fate, JobSettings, Lease, Settlement, Tally, Then
from stripedjob.pool.worker import WorkerPool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

JOB = JobSettings(namespace="default", job_type="sync", schedule_limit=4)


@pytest.fixture
def db(fresh_database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(fresh_database, autocommit=True) as conn:
        migrate(conn)
        yield conn


def play(url: str, scene: Callable[[WorkerPool, int], Awaitable[None]], job: JobSettings = JOB) -> None:
    async def run() -> None:
        async with WorkerPool.open(url) as pool:
            await scene(pool, await pool.apply_job(job))

    asyncio.run(run())


def enqueue(db: psycopg.Connection, resource: str, *, units: int = 1, **options: Any) -> list[int]:
    given = {"resource": resource, "units": units, "importance": None, "dedup_id": None} | options
    query = """select striped.enqueue(
            'sync', %(resource)s, '{}', importance => %(importance)s, dedup_id => %(dedup_id)s)
        from generate_series(1, %(units)s)"""
    return [row[0] for row in db.execute(query, given)]


def count(db: psycopg.Connection, query: str) -> int:
    row = db.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])


async def claimed(pool: WorkerPool, job_id: int, worker_id: int, resources: int = 64, units: int = 100) -> list[Lease]:
    await pool.upkeep(job_id)
    return await pool.claim(worker_id, resources, units)


batches = itertools.count(1)


async def settle(pool: WorkerPool, job_id: int, worker_id: int, ended: list[Settlement]) -> list[str]:
    return await pool.settle(job_id, Batch(worker_id, next(batches), tuple(ended), Tally()))


def all_done(lease: Lease) -> Settlement:
    return Settlement(lease, Then.READY if lease.more else Then.IDLE, lease.ids)


@pytest.mark.acceptance("A03")
def test_a03_migrations_fresh_repeated_and_upgraded(fresh_database: str) -> None:
    everything = [m.version for m in migrations()]
    with psycopg.connect(fresh_database, autocommit=True) as conn:
        assert migrate(conn, "upgraded_pool", to_version=everything[1]) == everything[:2]
        assert migrate(conn, "upgraded_pool") == everything[2:]
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


def test_a_schema_name_that_is_no_plain_name_is_refused(db: psycopg.Connection) -> None:
    with pytest.raises(PoolSchemaError, match="use up to 63 of a-z"):
        migrate(db, 'odd "schema" %s')


def test_a_lease_is_exclusive_and_its_fence_grows(db: psycopg.Connection, fresh_database: str) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        enqueue(db, "a", units=3)
        one, two = await pool.register(job_id, "one"), await pool.register(job_id, "two")
        (first,) = await claimed(pool, job_id, one, units=2)
        assert (len(first.ids), first.more) == (2, True)
        assert await claimed(pool, job_id, two) == []
        assert await settle(pool, job_id, one, [all_done(first)]) == []
        (second,) = await claimed(pool, job_id, two)
        assert second.fence > first.fence
        assert (len(second.ids), second.more) == (1, False)
        assert await settle(pool, job_id, two, [all_done(second)]) == []

    play(fresh_database, scene)
    assert count(db, "select count(*) from striped.unit") == 0
    assert count(db, "select count(*) from striped.stripe") == 0


@pytest.mark.acceptance("A35")
def test_a35_a_late_settlement_changes_nothing_and_is_counted(db: psycopg.Connection, fresh_database: str) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        enqueue(db, "a")
        paused, other = await pool.register(job_id, "paused"), await pool.register(job_id, "other")
        (old,) = await claimed(pool, job_id, paused)
        db.execute("update striped.worker set expires_at = now() - interval '1 s' where id = %s", [paused])
        (new,) = await claimed(pool, job_id, other)
        assert new.fence > old.fence
        assert await settle(pool, job_id, paused, [all_done(old)]) == ["a"]
        with pytest.raises(WorkerLostError):
            await pool.renew(paused)
        with pytest.raises(WorkerLostError):
            await pool.claim(paused, 1, 1)

    play(fresh_database, scene)
    assert count(db, "select count(*) from striped.unit") == 1
    assert count(db, "select stale from striped.job") == 1


@pytest.mark.parametrize("then", ["the next settlement", "the next claim", "clear"])
def test_what_a_transaction_recorded_is_counted_though_its_worker_died(
    db: psycopg.Connection, fresh_database: str, then: str
) -> None:
    units = 1 if then == "the next claim" else 2  # which finds nothing left, and settles that

    async def scene(pool: WorkerPool, job_id: int) -> None:
        enqueue(db, "a", units=units)
        doomed, other = await pool.register(job_id, "doomed"), await pool.register(job_id, "other")
        (lease,) = await claimed(pool, job_id, doomed)
        done = list(lease.ids[:1])
        assert db.execute("select striped.complete(%s, 'a', %s, %s)", [job_id, lease.fence, done]).fetchone() == (True,)
        db.execute("update striped.worker set expires_at = now() - interval '1 s' where id = %s", [doomed])
        if then == "clear":
            db.execute("select striped.clear(%s)", [job_id])
        else:
            (lease,) = await claimed(pool, job_id, other)
            assert len(lease.ids) == units - 1
            assert await settle(pool, job_id, other, [all_done(lease)]) == []
        await pool.leave(other)

    play(fresh_database, scene)
    assert count(db, "select count(*) from striped.unit") == 0
    assert count(db, "select total_done from striped.job_status") == (1 if then == "clear" else units)


@pytest.mark.acceptance("A42")
def test_a42_a_unit_that_kills_its_workers_is_held(db: psycopg.Connection, fresh_database: str) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        enqueue(db, "poison")
        for crash in range(1, 4):
            worker = await pool.register(job_id, "doomed")
            (lease,) = await claimed(pool, job_id, worker)
            assert lease.crashes == (crash - 1,)
            db.execute("update striped.worker set expires_at = now() - interval '1 s'")
            await pool.upkeep(job_id)

    play(fresh_database, scene, replace(JOB, crash_threshold=3))
    assert count(db, "select count(*) from striped.unit where state = 'held' and crashes = 3") == 1
    assert count(db, "select crashed from striped.job") == 3


def test_after_a_death_with_many_leases_each_is_leased_alone_and_the_culprit_found(
    db: psycopg.Connection, fresh_database: str
) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        for resource in ("innocent", "poison"):
            enqueue(db, resource, units=2)
        worker = await pool.register(job_id, "doomed")
        # A worker alone gets half of what is ready at a time, so that others find some.
        leases = await claimed(pool, job_id, worker) + await claimed(pool, job_id, worker)
        assert sorted(lease.resource for lease in leases) == ["innocent", "poison"]
        db.execute("update striped.worker set expires_at = now() - interval '1 s'")
        worker = await pool.register(job_id, "next")
        alone = [(await claimed(pool, job_id, worker))[0] for _ in range(2)]
        assert [(lease.suspect, len(lease.ids), lease.more) for lease in alone] == [(True, 1, True)] * 2
        good = next(lease for lease in alone if lease.resource == "innocent")
        await settle(pool, job_id, worker, [all_done(good)])
        db.execute("update striped.worker set expires_at = now() - interval '1 s'")
        await pool.upkeep(job_id)

    play(fresh_database, scene)
    crashes: dict[str, int] = dict(db.execute("select resource, max(crashes) from striped.unit group by 1").fetchall())
    assert crashes == {"innocent": 0, "poison": 1}


@pytest.mark.acceptance("A14")
def test_a14_no_more_workers_than_the_limit_may_claim(db: psycopg.Connection, fresh_database: str) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        for number in range(40):
            enqueue(db, f"r{number}")
        workers = [await pool.register(job_id, f"w{number}") for number in range(5)]
        at_work = {worker: await claimed(pool, job_id, worker, resources=1) for worker in workers}
        assert [len(at_work[worker]) for worker in workers] == [1, 1, 0, 0, 0]
        await settle(pool, job_id, workers[0], [all_done(at_work[workers[0]][0])])
        await pool.leave(workers[0])
        assert [len(await claimed(pool, job_id, worker, resources=1)) for worker in workers[1:]] == [1, 1, 0, 0]

    play(fresh_database, scene, replace(JOB, schedule_limit=2))


@pytest.mark.acceptance("A16")
def test_a16_a_lowered_limit_stops_the_youngest(db: psycopg.Connection, fresh_database: str) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        for number in range(40):
            enqueue(db, f"r{number}")
        workers = [await pool.register(job_id, f"w{number}") for number in range(4)]
        for worker in workers:
            assert await claimed(pool, job_id, worker, resources=1)
        await pool.apply_job(replace(JOB, schedule_limit=1))
        assert [len(await claimed(pool, job_id, worker, resources=1)) for worker in workers] == [1, 0, 0, 0]

    play(fresh_database, scene)


@pytest.mark.acceptance("A18")
def test_a18_a_limit_of_0_lets_nobody_work(db: psycopg.Connection, fresh_database: str) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        enqueue(db, "a")
        worker = await pool.register(job_id, "w")
        assert await claimed(pool, job_id, worker) == []
        assert not (await pool.poll(worker)).claimable

    play(fresh_database, scene, replace(JOB, schedule_limit=0))


@pytest.mark.acceptance("A09")
def test_a09_a_due_time_is_a_moment_whatever_the_sessions_time_zone(
    db: psycopg.Connection, fresh_database: str
) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        db.execute("set time zone 'Asia/Tokyo'")
        db.execute("select striped.enqueue('sync', 'past', due_at => clock_timestamp() - interval '1 s')")
        db.execute("select striped.enqueue('sync', 'future', due_at => clock_timestamp() + interval '1 h')")
        worker = await pool.register(job_id, "w")
        assert [lease.resource for lease in await claimed(pool, job_id, worker)] == ["past"]
        db.execute("update striped.unit set due_at = clock_timestamp() where resource = 'future'")
        await pool.upkeep(job_id)
        assert [lease.resource for lease in await claimed(pool, job_id, worker)] == ["future"]

    play(fresh_database, scene)


@pytest.mark.acceptance("A41")
def test_a41_a_retry_waits_for_its_time_and_blocks_nothing(db: psycopg.Connection, fresh_database: str) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        first, second = enqueue(db, "a", units=2)
        worker = await pool.register(job_id, "w")
        (lease,) = await claimed(pool, job_id, worker)
        failed = Failure(first, Fate.DELAYED, attempts=1, crashes=0, reason="later", after_seconds=3600)
        await settle(pool, job_id, worker, [Settlement(lease, Then.IDLE, (second,), (failed,))])
        assert await claimed(pool, job_id, worker) == []
        db.execute("update striped.unit set due_at = clock_timestamp()")
        await pool.upkeep(job_id)
        (again,) = await claimed(pool, job_id, worker)
        assert (again.ids, again.attempts) == ((first,), (1,))

    play(fresh_database, scene)


@pytest.mark.acceptance("A43")
@pytest.mark.parametrize("state", ["held", "dead"])
def test_a43_what_was_set_aside_is_seen_and_released(db: psycopg.Connection, fresh_database: str, state: str) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        (unit,) = enqueue(db, "a")
        worker = await pool.register(job_id, "w")
        (lease,) = await claimed(pool, job_id, worker)
        failed = Failure(unit, Fate(state), attempts=1, crashes=0, reason="no such listing")
        await settle(pool, job_id, worker, [Settlement(lease, Then.IDLE, (), (failed,))])
        held, dead = db.execute("select held, dead from striped.job_status").fetchall()[0]
        assert {"held": held, "dead": dead}[state] == held + dead == 1
        revived = db.execute(
            "select striped.revive(%s, %s::striped.unit_state, null, null)", [job_id, state]
        ).fetchone()
        assert revived == (1,)
        (again,) = await claimed(pool, job_id, worker)
        assert (again.ids, again.attempts) == ((unit,), (0,))

    play(fresh_database, scene)


STATES = ("ready", "delayed", "held", "dead", "done")
LEGAL = {("ready", new) for new in STATES} | {(old, "ready") for old in ("delayed", "held", "dead")}


@pytest.mark.acceptance("A40")
@pytest.mark.parametrize(("old", "new"), [pair for pair in itertools.permutations(STATES, 2) if pair not in LEGAL])
def test_a40_the_database_refuses_illegal_transitions(db: psycopg.Connection, old: str, new: str) -> None:
    db.execute(
        "insert into striped.unit (job_id, resource, state, reason, due_at, finished_at) values (1, 'a',"
        " %(old)s::striped.unit_state, 'why', now(), case when %(old)s in ('dead', 'done') then now() end)",
        {"old": old},
    )
    with pytest.raises(psycopg.errors.CheckViolation, match=f"cannot go from {old} to {new}"):
        db.execute("update striped.unit set state = %s::striped.unit_state", [new])


@pytest.mark.acceptance("A45")
def test_a45_importance_goes_first_ties_by_age(db: psycopg.Connection, fresh_database: str) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        for resource, importance in (("low", 1), ("first", 5), ("second", 5), ("high", 9)):
            enqueue(db, resource, importance=importance)
            await pool.upkeep(job_id)
        worker = await pool.register(job_id, "w")
        order = [(await pool.claim(worker, 1, 1))[0].resource for _ in range(4)]
        assert order == ["high", "first", "second", "low"]

    play(fresh_database, scene)


@pytest.mark.acceptance("A46")
def test_a46_retention_removes_all_that_is_expired_in_one_pass(db: psycopg.Connection, fresh_database: str) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        db.execute(
            "insert into striped.unit (job_id, resource, state, finished_at)"
            " select %s, 'a', 'done', now() - make_interval(secs => 100 * (n %% 2)) from generate_series(1, 400) n",
            [job_id],
        )
        db.execute("update striped.job set cleaned_at = '-infinity'")
        await pool.upkeep(job_id)

    play(fresh_database, scene, replace(JOB, completed_seconds=50))
    assert count(db, "select count(*) from striped.unit") == 200


def test_retention_keeps_up_where_more_expires_than_one_pass_removes(
    db: psycopg.Connection, fresh_database: str
) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        db.execute(
            "insert into striped.unit (job_id, resource, state, finished_at)"
            " select %s, 'a', 'done', now() - interval '100 s' from generate_series(1, 10001) n",
            [job_id],
        )
        db.execute("update striped.job set cleaned_at = '-infinity'")
        for left in (1, 0):
            await pool.upkeep(job_id)
            assert count(db, "select count(*) from striped.unit") == left

    play(fresh_database, scene, replace(JOB, completed_seconds=50))


@pytest.mark.acceptance("A10")
def test_a10_clear_removes_units_and_leases_and_the_workers_go_on(db: psycopg.Connection, fresh_database: str) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        enqueue(db, "a", units=5)
        worker = await pool.register(job_id, "w")
        (lease,) = await claimed(pool, job_id, worker)
        assert count(db, f"select striped.clear({job_id})") == 5
        assert await settle(pool, job_id, worker, [all_done(lease)]) == ["a"]
        (unit,) = enqueue(db, "b")
        (fresh,) = await claimed(pool, job_id, worker)
        assert fresh.ids == (unit,)

    play(fresh_database, scene)


def test_no_wake_up_is_lost_when_units_come_in_while_the_resource_is_leased(
    db: psycopg.Connection, fresh_database: str
) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        enqueue(db, "a")
        worker = await pool.register(job_id, "w")
        (lease,) = await claimed(pool, job_id, worker)
        folded, unfolded = enqueue(db, "a")[0], None
        await pool.upkeep(job_id)
        unfolded = enqueue(db, "a")[0]
        await settle(pool, job_id, worker, [all_done(lease)])
        (rest,) = await claimed(pool, job_id, worker)
        assert rest.ids == (folded, unfolded)

    play(fresh_database, scene)


def test_leaving_gives_everything_back_and_counts_no_crash(db: psycopg.Connection, fresh_database: str) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        enqueue(db, "a")
        worker = await pool.register(job_id, "w")
        assert await claimed(pool, job_id, worker)
        await pool.leave(worker)
        (lease,) = await claimed(pool, job_id, await pool.register(job_id, "next"))
        assert (lease.crashes, lease.suspect) == ((0,), False)

    play(fresh_database, scene)


def test_a_deduplication_id_is_good_for_its_window(db: psycopg.Connection, fresh_database: str) -> None:
    async def scene(_pool: WorkerPool, _job_id: int) -> None:
        assert enqueue(db, "a", dedup_id="once") == enqueue(db, "a", dedup_id="once")
        db.execute("update striped.dedup set expires_at = clock_timestamp()")
        enqueue(db, "a", dedup_id="once")

    play(fresh_database, scene)
    assert count(db, "select count(*) from striped.unit") == 2


@pytest.mark.parametrize("resource", ["", "x" * 10_240])
def test_a_resource_name_out_of_bounds_is_refused(db: psycopg.Connection, fresh_database: str, resource: str) -> None:
    async def scene(_pool: WorkerPool, _job_id: int) -> None:
        with pytest.raises(psycopg.errors.CheckViolation, match="resource_length"):
            enqueue(db, resource)

    play(fresh_database, scene)


def test_an_unknown_job_type_is_refused_with_a_way_out(db: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.NoDataFound, match=r"no job type \"nope\"[\s\S]*Apply its StripedJob"):
        db.execute("select striped.enqueue('nope', 'a')")


def test_a_payload_that_is_not_json_is_refused(db: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.InvalidTextRepresentation):
        db.execute("select striped.enqueue('sync', 'a', '{nope')")


def test_payloads_come_back_as_they_were(db: psycopg.Connection, fresh_database: str) -> None:
    payload = json.dumps({"b": [1, 2.50, "ü\n"], "a": None})

    async def scene(pool: WorkerPool, job_id: int) -> None:
        db.execute("select striped.enqueue('sync', %s, %s)", ["odd {name}\n☃ 'x'", payload])
        (lease,) = await claimed(pool, job_id, await pool.register(job_id, "w"))
        assert (lease.resource, lease.payloads) == ("odd {name}\n☃ 'x'", (payload,))

    play(fresh_database, scene)


@pytest.mark.acceptance("A02")
def test_a02_an_unreachable_postgres_is_a_clear_error_in_bounded_time() -> None:
    async def run() -> None:
        async with WorkerPool.open("postgresql://127.0.0.1:1/none"):
            pass

    with pytest.raises(PoolUnreachableError, match="cannot be reached"):
        asyncio.run(run())
    assert issubclass(PoolUnreachableError, PoolError)


@pytest.mark.acceptance("A22")
def test_a22_a_busy_head_costs_the_free_ones_nothing(db: psycopg.Connection, fresh_database: str) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        busy = {f"busy-{n}" for n in range(20)}
        for resource in sorted(busy):
            enqueue(db, resource, units=100)
        holder = await pool.register(job_id, "holder")
        while held := await claimed(pool, job_id, holder):
            busy -= {lease.resource for lease in held}
        assert not busy
        for n in range(900):
            enqueue(db, f"free-{n}")
        worker = await pool.register(job_id, "worker")
        looks = 0
        while leases := await claimed(pool, job_id, worker):
            assert {lease.resource[:5] for lease in leases} == {"free-"}
            await settle(pool, job_id, worker, [all_done(lease) for lease in leases])
            looks += 1
        assert count(db, "select count(*) from striped.unit where resource like 'free-%'") == 0
        assert looks < 900 / 64 + 50  # the last ones spread over the workers: half an even share a claim
        assert not (await pool.poll(worker)).claimable

    play(fresh_database, scene)
