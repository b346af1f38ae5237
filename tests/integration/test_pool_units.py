"""What becomes of a unit: its time, its order, its fate, its end."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
import pytest
from tests.support.pool_calls import JOB, all_done, claimed, count, enqueue, play, settle

from stripedjob.pool.types import Failure, Fate, Settlement, Then

if TYPE_CHECKING:
    from stripedjob.pool.client.worker import WorkerPool

pytestmark = pytest.mark.migrated


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
            "select striped.revive(%s, %s::striped.unit_state, null, null, 100)", [job_id, state]
        ).fetchone()
        assert revived == (1,)
        (again,) = await claimed(pool, job_id, worker)
        assert (again.ids, again.attempts) == ((unit,), (0,))

    play(fresh_database, scene)


STATES = ("ready", "delayed", "held", "dead", "done")


LEGAL = {("ready", new) for new in STATES} | {(old, "ready") for old in ("delayed", "held", "dead")}
LEGAL |= {("delayed", "dead"), ("held", "dead")}  # by a person who cancels


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
        db.execute("update striped.turn set at = '-infinity'")
        assert not await pool.clean(job_id)

    play(fresh_database, scene, replace(JOB, completed_seconds=50))
    assert count(db, "select count(*) from striped.unit") == 200


def test_retention_keeps_up_where_more_expires_than_one_pass_removes(
    db: psycopg.Connection, fresh_database: str
) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        db.execute(
            "insert into striped.unit (job_id, resource, state, finished_at)"
            " select %s, 'a', 'done', now() - interval '100 s' from generate_series(1, 2001) n",
            [job_id],
        )
        db.execute("update striped.turn set at = '-infinity'")
        for left in (1, 0):
            assert await pool.clean(job_id) == bool(left)
            assert count(db, "select count(*) from striped.unit") == left

    play(fresh_database, scene, replace(JOB, completed_seconds=50))


@pytest.mark.acceptance("A10")
def test_a10_clear_removes_units_and_leases_and_the_workers_go_on(db: psycopg.Connection, fresh_database: str) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        enqueue(db, "a", units=5)
        worker = await pool.register(job_id, "w")
        (lease,) = await claimed(pool, job_id, worker)
        assert count(db, f"select striped.clear({job_id}, 1000)") == 5
        assert await settle(pool, job_id, worker, [all_done(lease)]) == ["a"]
        (unit,) = enqueue(db, "b")
        (fresh,) = await claimed(pool, job_id, worker)
        assert fresh.ids == (unit,)

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
