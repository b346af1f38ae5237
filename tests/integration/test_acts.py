"""What people do to a pool that is at work: cancel, hurry, pause and resume, list."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.support.pool_calls import JOB, all_done, claimed_all, count, enqueue, play, settle

from stripedjob.pool.client.person import Cancelled
from stripedjob.pool.client.viewer import Filter, Place
from stripedjob.pool.types import Failure, Fate, Settlement, Then

if TYPE_CHECKING:
    import psycopg

    from stripedjob.pool.client.owner import OwnerPool
    from stripedjob.pool.client.worker import WorkerPool
    from stripedjob.pool.types import JobSettings, Lease

pytestmark = pytest.mark.migrated

BLOCK = replace(JOB, on_failure="Block")
HOSTILE = "r'\"\\ {x}\x1b[31m %s \u202e"
WHY = "wrong import\n'; drop table striped.unit; --"
REASON = f"cancelled by ann: {WHY}"


def states(db: psycopg.Connection) -> dict[str, int]:
    return dict(db.execute("select state::text, count(*) from striped.unit group by 1").fetchall())


def numbers(people: OwnerPool, job_id: int) -> tuple[int, int, int, int]:
    status = people.status(job_id)
    return status.pending, status.delayed, status.held, status.dead


def failed(lease: Lease, to: Fate, then: Then, *, after: float = 0.0, wait: float | None = None) -> Settlement:
    failure = Failure(lease.ids[0], to, attempts=1, crashes=0, reason="no luck", after_seconds=after)
    return Settlement(lease, then, (), (failure,), wait)


def test_what_waits_is_cancelled_at_once(db: psycopg.Connection, fresh_database: str, people: OwnerPool) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        enqueue(db, HOSTILE, units=3)
        enqueue(db, "b")
        db.execute("select striped.enqueue('sync', 'c', due_at => now() + interval '1 h')")
        enqueue(db, "held")
        worker = await pool.register(job_id, "w")
        leases = await claimed_all(pool, job_id, worker)
        await settle(
            pool,
            job_id,
            worker,
            [
                failed(one, Fate.HELD, Then.IDLE) if one.resource == "held" else Settlement(one, Then.READY)
                for one in leases
            ],
        )
        assert numbers(people, job_id) == (4, 1, 1, 0)
        assert people.cancel(job_id, HOSTILE, [], "ann", WHY) == Cancelled(3, 0)
        assert numbers(people, job_id) == (1, 1, 1, 3)
        assert people.cancel(job_id, None, [], "ann", WHY) == Cancelled(3, 0)
        assert numbers(people, job_id) == (0, 0, 0, 6)
        assert states(db) == {"dead": 6}
        assert db.execute("select distinct reason from striped.unit").fetchall() == [(REASON,)]
        empty = await claimed_all(pool, job_id, worker)
        assert [one.ids for one in empty] == [(), ()]
        await settle(pool, job_id, worker, [all_done(one) for one in empty])
        assert people.cancel(job_id, None, [], "ann", WHY) == Cancelled(0, 0)
        assert people.revive(job_id, "dead", None, None) == 6
        await pool.upkeep(job_id)
        assert numbers(people, job_id) == (6, 0, 0, 0)

    play(fresh_database, scene)


def test_what_was_cancelled_before_it_was_handed_out_never_is(
    db: psycopg.Connection, fresh_database: str, people: OwnerPool
) -> None:
    """Also where whoever claims comes before upkeep, which ends it."""

    async def scene(pool: WorkerPool, job_id: int) -> None:
        enqueue(db, "a", units=3)
        worker = await pool.register(job_id, "w")
        [lease] = await claimed_all(pool, job_id, worker, units=1)
        ids = [row[0] for row in db.execute("select id from striped.unit order by id")]
        assert people.cancel(job_id, None, [ids[1]], "ann", "") == Cancelled(0, 1)
        db.execute("update striped.stripe set state = 'ready', worker_id = null")  # as one that was taken back
        [again] = await pool.claim(worker, 64, 100, unshared=64)
        assert list(again.ids) == [ids[0], ids[2]]
        assert lease.ids == (ids[0],)

    play(fresh_database, scene)


def test_what_runs_is_marked_and_dead_when_its_lease_ends(
    db: psycopg.Connection, fresh_database: str, people: OwnerPool
) -> None:
    """Whatever becomes of the try: done stays done, a failure is no other try, and what was not begun is not begun."""

    async def scene(pool: WorkerPool, job_id: int) -> None:
        for resource in ("done", "fails", "back"):
            enqueue(db, resource, units=2)
        worker = await pool.register(job_id, "w")
        leases = {one.resource: one for one in await claimed_all(pool, job_id, worker)}
        running = [one.ids[0] for one in leases.values()]
        assert await pool.keep_up(job_id, worker) == {}
        assert people.cancel(job_id, None, running, "ann", "") == Cancelled(0, 3)
        assert people.cancel(job_id, None, running, "bob", "") == Cancelled(0, 0)
        assert await pool.keep_up(job_id, worker) == dict.fromkeys(running, "cancelled by ann")
        assert await pool.cancellations(worker) == dict.fromkeys(running, "cancelled by ann")
        assert states(db) == {"ready": 6}
        await settle(
            pool,
            job_id,
            worker,
            [
                all_done(leases["done"]),
                failed(leases["fails"], Fate.DELAYED, Then.READY, after=9),
                Settlement(leases["back"], Then.READY),
            ],
        )
        (first, second) = sorted(await claimed_all(pool, job_id, worker))
        assert first.ids == leases["back"].ids[1:]
        assert second.ids == leases["fails"].ids[1:]
        assert numbers(people, job_id) == (2, 0, 0, 2)
        assert people.unit_states(job_id, running) == {
            leases[name].ids[0]: ("dead", "cancelled by ann") for name in ("fails", "back")
        }
        assert await pool.keep_up(job_id, worker) == {}
        await settle(pool, job_id, worker, [all_done(first), all_done(second)])
        assert people.is_empty(job_id)
        assert people.status(job_id).total_done == 4

    play(fresh_database, scene)


def test_a_cancelled_unit_of_a_worker_that_died_is_dead(
    db: psycopg.Connection, fresh_database: str, people: OwnerPool
) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        first, second = enqueue(db, "a", units=2)
        worker = await pool.register(job_id, "w")
        await claimed_all(pool, job_id, worker)
        assert people.cancel(job_id, None, [first], "ann", "") == Cancelled(0, 1)
        db.execute("update striped.worker set expires_at = '-infinity'")
        other = await pool.register(job_id, "x")
        (lease,) = await claimed_all(pool, job_id, other)
        assert lease.ids == (second,)
        assert states(db) == {"ready": 1, "dead": 1}

    play(fresh_database, scene)


def test_where_order_is_strict_a_resource_goes_on_after_what_was_cancelled(
    db: psycopg.Connection, fresh_database: str, people: OwnerPool
) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        worker = await pool.register(job_id, "w")
        retried, held = enqueue(db, "retried", units=2), enqueue(db, "held", units=2)
        db.execute("select striped.enqueue('sync', 'barred', due_at => now() + interval '1 h')")
        barred = enqueue(db, "barred")
        leases = {one.resource: one for one in await claimed_all(pool, job_id, worker)}
        assert set(leases) == {"retried", "held"}
        ended = [
            failed(leases["retried"], Fate.READY, Then.WAIT, wait=3600.0),
            failed(leases["held"], Fate.HELD, Then.WAIT, wait=float("inf")),
        ]
        await settle(pool, job_id, worker, ended)
        assert people.cancel(job_id, None, [retried[1]], "ann", "it is not the first") == Cancelled(1, 0)
        assert await claimed_all(pool, job_id, worker) == []
        assert people.cancel(job_id, None, [retried[0], held[0]], "ann", "") == Cancelled(2, 0)
        barrier = count(db, "select id from striped.unit where resource = 'barred' and state = 'delayed'")
        assert people.cancel(job_id, None, [barrier], "ann", "") == Cancelled(1, 0)
        found = {one.resource: list(one.ids) for one in await claimed_all(pool, job_id, worker)}
        assert found == {"retried": [], "held": held[1:], "barred": barred}

    play(fresh_database, scene, BLOCK)


def test_retries_go_on_now_and_what_is_due_later_stays(
    db: psycopg.Connection, fresh_database: str, people: OwnerPool
) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        enqueue(db, "a")
        enqueue(db, "b")
        db.execute("select striped.enqueue('sync', 'later', due_at => now() + interval '1 h')")
        worker = await pool.register(job_id, "w")
        leases = await claimed_all(pool, job_id, worker)
        await settle(pool, job_id, worker, [failed(one, Fate.DELAYED, Then.IDLE, after=3600) for one in leases])
        assert people.retry_now(job_id, "a", []) == (1, 0)
        assert people.retry_now(job_id, None, []) == (1, 0)
        assert numbers(people, job_id) == (2, 1, 0, 0)
        assert {one.resource for one in await claimed_all(pool, job_id, worker)} == {"a", "b"}
        later = count(db, "select id from striped.unit where resource = 'later'")
        assert people.retry_now(job_id, None, [later]) == (1, 0)
        assert [one.ids for one in await claimed_all(pool, job_id, worker)] == [(later,)]

    play(fresh_database, scene)


@pytest.mark.parametrize("by", ["all", "resource", "id"])
def test_a_resource_that_waits_for_a_retry_goes_on_now(
    db: psycopg.Connection, fresh_database: str, people: OwnerPool, by: str
) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        (unit,) = enqueue(db, "a")
        worker = await pool.register(job_id, "w")
        (lease,) = await claimed_all(pool, job_id, worker)
        await settle(pool, job_id, worker, [failed(lease, Fate.READY, Then.WAIT, wait=3600.0)])
        chosen = ("a" if by == "resource" else None, [unit] if by == "id" else [])
        assert people.retry_now(job_id, *chosen) == (0, 1)
        (again,) = await claimed_all(pool, job_id, worker)
        assert (again.ids, again.attempts) == ((unit,), (1,))
        assert people.retry_now(job_id, *chosen) == (0, 0)

    play(fresh_database, scene, BLOCK)


def test_a_paused_job_claims_nothing_and_stays_paused(
    db: psycopg.Connection, fresh_database: str, people: OwnerPool
) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        enqueue(db, "a", units=2)
        worker = await pool.register(job_id, "w")
        (lease,) = await claimed_all(pool, job_id, worker, units=1)
        assert people.pause(job_id, None, "ann", WHY)
        assert not people.pause(job_id, None, "bob", "")
        await settle(pool, job_id, worker, [all_done(lease)])
        assert await claimed_all(pool, job_id, worker) == []
        assert await pool.apply_job(replace(JOB, generation=2, schedule_limit=7)) == job_id
        people.migrate()
        assert await claimed_all(pool, job_id, worker) == []
        assert not (await pool.poll(worker)).claimable
        status = people.status(job_id)
        assert (status.paused_by, status.paused_why, status.schedule_limit) == ("ann", WHY, 0)
        settings = people.settings("default", "sync")
        assert settings
        assert settings.schedule_limit == 7
        facts = people.explain(job_id, "a")
        assert facts["job_paused"]["who"] == "ann"
        assert people.resume(job_id, None)
        assert not people.resume(job_id, None)
        assert people.status(job_id).schedule_limit == 7
        assert people.status(job_id).paused_by is None
        assert len(await claimed_all(pool, job_id, worker)) == 1

    play(fresh_database, scene)


HOW_LEASES_END = ["settled", "idle", "left", "resumed", "died", "swept"]


@pytest.mark.parametrize("how", HOW_LEASES_END)
@pytest.mark.parametrize("job", [JOB, BLOCK], ids=["skip", "block"])
def test_a_paused_resource_is_not_leased_again(
    db: psycopg.Connection, fresh_database: str, people: OwnerPool, how: str, job: JobSettings
) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        enqueue(db, HOSTILE, units=2)
        enqueue(db, "other")
        worker = await pool.register(job_id, "w")
        leases = {one.resource: one for one in await claimed_all(pool, job_id, worker, units=1)}
        assert people.pause(job_id, HOSTILE, "ann", WHY)
        assert not people.pause(job_id, HOSTILE, "bob", "")
        match how:
            case "settled":
                await settle(pool, job_id, worker, [all_done(leases[HOSTILE])])
            case "idle":
                await settle(pool, job_id, worker, [Settlement(leases[HOSTILE], Then.IDLE, leases[HOSTILE].ids)])
            case "left":
                await pool.leave(worker)
            case "resumed":
                await pool.resume(worker, 1, [])
            case "died":
                db.execute("update striped.worker set expires_at = '-infinity'")
            case "swept":
                db.execute("delete from striped.worker")
                db.execute("select striped.sweep_orphans(%s)", [job_id])
        other = await pool.register(job_id, "x")
        enqueue(db, HOSTILE)
        assert HOSTILE not in [one.resource for one in await claimed_all(pool, job_id, other)]
        assert await claimed_all(pool, job_id, other) == []
        assert people.explain(job_id, HOSTILE)["paused"]["why"] == WHY
        assert people.resume(job_id, HOSTILE)
        assert not people.resume(job_id, HOSTILE)
        (lease,) = await claimed_all(pool, job_id, other)
        assert lease.resource == HOSTILE

    play(fresh_database, scene, job)


def test_a_resource_may_be_paused_before_it_has_anything_to_do(
    db: psycopg.Connection, fresh_database: str, people: OwnerPool
) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        worker = await pool.register(job_id, "w")
        assert people.pause(job_id, "a", "ann", "")
        assert people.pause(job_id, "never", "ann", "")
        assert people.is_empty(job_id)
        enqueue(db, "a")
        assert await claimed_all(pool, job_id, worker) == []
        assert people.resume(job_id, "never")
        assert count(db, "select count(*) from striped.stripe") == 1
        assert people.clear(job_id) == 1
        enqueue(db, "a")
        assert len(await claimed_all(pool, job_id, worker)) == 1

    play(fresh_database, scene)


def test_where_order_is_strict_a_resumed_resource_still_waits_for_a_person(
    db: psycopg.Connection, fresh_database: str, people: OwnerPool
) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        enqueue(db, "a", units=2)
        worker = await pool.register(job_id, "w")
        (lease,) = await claimed_all(pool, job_id, worker)
        assert people.pause(job_id, "a", "ann", "")
        await settle(pool, job_id, worker, [failed(lease, Fate.HELD, Then.WAIT, wait=float("inf"))])
        assert await claimed_all(pool, job_id, worker) == []
        assert people.resume(job_id, "a")
        assert await claimed_all(pool, job_id, worker) == []
        assert people.revive(job_id, "held", None, None) == 1
        assert len(await claimed_all(pool, job_id, worker)) == 1

    play(fresh_database, scene, BLOCK)


def listed(people: OwnerPool, job_id: int, which: Filter, looked: int) -> list[tuple[str, str, int]]:
    """Return (state, resource, id) of all that matches, in pages of so many looked at."""
    found, after = [], Place()
    for _ in range(100):
        page = people.list_units(job_id, which, after, looked=looked)
        assert len(page["units"]) <= looked
        found += [(one["state"], one["resource"], one["id"]) for one in page["units"]]
        if page["next"] is None:
            return found
        after = Place(*page["next"])
    raise AssertionError


@pytest.mark.parametrize("looked", [1, 2, 2000])
def test_units_are_listed_by_state_each_once(
    db: psycopg.Connection, fresh_database: str, people: OwnerPool, looked: int
) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        worker = await pool.register(job_id, "w")
        for resource in ("done", "dead", "delayed", "held", "leased"):
            enqueue(db, resource, units=2)
        leases = {one.resource: one for one in await claimed_all(pool, job_id, worker, units=2)}
        both = {
            name: Settlement(
                leases[name],
                Then.IDLE,
                (),
                tuple(Failure(unit, Fate(name), 1, 0, f"{name} it is", 3600) for unit in leases[name].ids),
            )
            for name in ("dead", "delayed", "held")
        }
        await settle(pool, job_id, worker, [*both.values(), all_done(leases["done"])])
        enqueue(db, "paused", units=2)
        assert people.pause(job_id, "paused", "ann", "")
        enqueue(db, "ready", units=2)
        await pool.upkeep(job_id)
        everything = []
        for state in ("dead", "delayed", "held", "leased", "ready", "done"):
            found = listed(people, job_id, Filter(state=state), looked)
            assert [one[:2] for one in found] == [(state, state)] * 2
            assert sorted(found, key=lambda one: one[2], reverse=state == "done") == found or state == "done"
            everything += found if state != "done" else []
        everything += listed(people, job_id, Filter(state="waiting"), looked)
        assert sorted(listed(people, job_id, Filter(), looked)) == sorted(everything)
        assert len(everything) == 12
        assert len(listed(people, job_id, Filter(reason="dead it"), looked)) == 2
        assert len(listed(people, job_id, Filter(reason="it"), looked)) == 0
        assert len(listed(people, job_id, Filter(resource="leased"), looked)) == 2
        assert len(listed(people, job_id, Filter("waiting", "paused"), looked)) == 2
        assert listed(people, job_id, Filter("waiting", "leased"), looked) == []

    play(fresh_database, scene, replace(JOB, completed_seconds=3600))


def test_a_payload_is_given_where_it_is_asked_for(
    db: psycopg.Connection, fresh_database: str, people: OwnerPool
) -> None:
    async def scene(_pool: WorkerPool, job_id: int) -> None:
        db.execute("""select striped.enqueue('sync', 'a', '{"a":  1.50}')""")
        (unit,) = people.list_units(job_id, Filter(), Place(), looked=9)["units"]
        assert "1.50" not in str(unit)
        assert people.payloads(job_id, [unit["id"]]) == {unit["id"]: '{"a":  1.50}'}

    play(fresh_database, scene)


def test_the_outlook_says_why(db: psycopg.Connection, fresh_database: str, people: OwnerPool) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        for name in "abc":
            enqueue(db, name)
        worker = await pool.register(job_id, "w")
        leases = await claimed_all(pool, job_id, worker)
        await settle(pool, job_id, worker, [failed(one, Fate.DEAD, Then.IDLE) for one in leases])
        enqueue(db, "d")
        assert people.pause(job_id, "e", "ann", WHY)
        found = people.outlook(job_id, 5)
        assert found["oldest_at"] is not None
        assert [(one["reason"], one["units"]) for one in found["dead"]["reasons"]] == [("no luck", 3)]
        assert found["for_person"][0]["paused"]["why"] == WHY

    play(fresh_database, scene)
