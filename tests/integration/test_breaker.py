"""The circuit breaker: where a job's last tries all failed alike, nothing is claimed for a while, then one probes."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.support.pool_calls import JOB, all_done, count, enqueue, play, settle

from stripedjob.pool.client.owner import OwnerPool
from stripedjob.pool.types import Failure, Fate, Lease, Settlement, Then
from stripedjob.runtime.outcome import Fault, Outcome, Verdict
from stripedjob.runtime.worker.decide import RetryPolicy
from stripedjob.runtime.worker.decide import settle as decide

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

    from stripedjob.pool.client.worker import WorkerPool

BREAKS = replace(JOB, breaker_failures=3, backoff_seconds=10, backoff_seconds_max=35)
BLOCKS = replace(BREAKS, on_failure="Block")
STATE = "select alike, alike_kind, openings, round(extract(epoch from open_until - clock_timestamp())) from striped.job"


@pytest.fixture
def people(fresh_database: str, db: psycopg.Connection) -> Iterator[OwnerPool]:
    assert db
    with OwnerPool.open(fresh_database) as pool:
        yield pool


async def claimed(pool: WorkerPool, job_id: int, worker_id: int, units: int = 1) -> list[Lease]:
    """Lease all that is ready, more than a fair share."""
    await pool.upkeep(job_id)
    return await pool.claim(worker_id, 64, units, unshared=64)


def failed(lease: Lease, kind: str = "ValueError", to: Fate = Fate.DELAYED, then: Then = Then.IDLE) -> Settlement:
    """Settle a lease of one unit as its worker does whose try failed."""
    wait = 300.0 if then is Then.WAIT else None
    failure = Failure(lease.ids[0], to, lease.attempts[0] + 1, 0, f"{kind}: no luck", 300.0, kind=kind)
    return Settlement(lease, then, (), (failure,), wait)


def state(db: psycopg.Connection) -> tuple[int, str | None, int, int | None]:
    row = db.execute(STATE).fetchone()
    assert row is not None
    return row


def half_open(db: psycopg.Connection) -> None:
    """Let the time that it is open for be over, and likewise of what was spared."""
    db.execute("update striped.job set open_until = clock_timestamp() where open_until is not null")
    db.execute("update striped.unit set due_at = clock_timestamp() where state = 'delayed'")
    db.execute("update striped.stripe set next_at = clock_timestamp() where state = 'waiting'")


def units(db: psycopg.Connection) -> list[tuple[str, str, int]]:
    return db.execute("select resource, state::text, attempts from striped.unit order by id").fetchall()


async def opened(db: psycopg.Connection, pool: WorkerPool, job_id: int) -> int:
    """Open it with three units, `a`, `b` and `c`; returns the worker."""
    for resource in "abc":
        enqueue(db, resource)
    worker = await pool.register(job_id, "w")
    leases = await claimed(pool, job_id, worker)
    await settle(pool, job_id, worker, [failed(one) for one in leases])
    return worker


def test_it_opens_after_so_many_tries_that_failed_alike_of_all_workers(
    db: psycopg.Connection, fresh_database: str, people: OwnerPool
) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        for resource in "abcd":
            enqueue(db, resource, units=2)
        workers = [await pool.register(job_id, name) for name in "xy"]
        leases = await claimed(pool, job_id, workers[0])
        for lease in leases[:2]:
            await settle(pool, job_id, workers[0], [failed(lease, then=Then.READY)])
        assert state(db) == (2, "ValueError", 0, None)
        (lease,) = (await claimed(pool, job_id, workers[1]))[:1]
        await settle(pool, job_id, workers[1], [failed(lease, then=Then.READY)])
        assert state(db) == (3, "ValueError", 1, 10)
        enqueue(db, "new")
        for worker in workers:
            assert await claimed(pool, job_id, worker) == []
            poll = await pool.poll(worker)
            assert not poll.claimable
        spared = db.execute(
            "select attempts, due_at - clock_timestamp() < '11 s' from striped.unit where id = %s", lease.ids
        )
        assert spared.fetchone() == (0, True)
        status = people.status(job_id)
        assert (status.breaker_failures, status.breaker_kind) == (3, "ValueError")
        assert status.breaker_seconds is not None
        assert 5 < status.breaker_seconds <= 10
        found = people.explain(job_id, "new")["breaker"]
        assert (found["failures"], found["kind"], found["probe"]) == (3, "ValueError", None)

    play(fresh_database, scene, BREAKS)


def test_one_kind_in_a_row_is_counted_and_what_is_done_begins_anew(db: psycopg.Connection, fresh_database: str) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        for resource in "abcdefgh":
            enqueue(db, resource)
        worker = await pool.register(job_id, "w")
        leases = iter(await claimed(pool, job_id, worker))
        for kind, expected in (("ValueError", 1), ("ValueError", 2), ("HTTP 503", 1), ("HTTP 503", 2)):
            await settle(pool, job_id, worker, [failed(next(leases), kind)])
            assert state(db) == (expected, kind, 0, None)
        await settle(pool, job_id, worker, [all_done(next(leases))])
        assert state(db) == (0, None, 0, None)
        await settle(pool, job_id, worker, [failed(next(leases)), all_done(next(leases))])
        assert state(db) == (0, None, 0, None), "what was settled together had one that was done"
        await settle(pool, job_id, worker, [failed(next(leases))])
        assert state(db) == (1, "ValueError", 0, None)

    play(fresh_database, scene, BREAKS)


def test_units_of_one_call_are_one_try_and_are_spared_together(db: psycopg.Connection, fresh_database: str) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        enqueue(db, "a", units=4)
        enqueue(db, "b", units=4)
        worker = await pool.register(job_id, "w")
        policy = RetryPolicy(attempts_max=1, per_resource=True)
        outcome = Outcome(0, 0, 4, tuple(Fault(i, Verdict.RETRY, "E: 7") for i in range(4)), final=True)
        leases = await claimed(pool, job_id, worker, units=4)
        settled = [decide(lease, outcome, policy, random.Random(1)) for lease in leases]
        await settle(pool, job_id, worker, settled[:1])
        assert state(db) == (1, "E", 0, None)
        await settle(pool, job_id, worker, settled[1:])
        assert state(db)[:3] == (2, "E", 1)
        assert {(name, ends) for name, ends, _ in units(db)} == {("a", "dead"), ("b", "delayed")}

    play(fresh_database, scene, replace(BREAKS, breaker_failures=2))


def test_what_is_no_try_or_was_set_aside_on_purpose_does_not_count(
    db: psycopg.Connection, fresh_database: str, people: OwnerPool
) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        for resource in "abcde":
            enqueue(db, resource)
        worker = await pool.register(job_id, "w")
        a, b, c, d, e = await claimed(pool, job_id, worker)
        assert people.cancel(job_id, None, a.ids, "ann", "").asked == 1
        held = Settlement(b, Then.IDLE, (), (Failure(b.ids[0], Fate.HELD, 0, 0, "ask ann"),))
        dead = Settlement(c, Then.IDLE, (), (Failure(c.ids[0], Fate.DEAD, 0, 0, "HTTP 404"),))
        crashed = Settlement(d, Then.READY, (), (Failure(d.ids[0], Fate.READY, 0, 1, "died"),))
        await settle(pool, job_id, worker, [failed(a), held, dead, crashed, Settlement(e, Then.READY)])
        assert state(db) == (0, None, 0, None)
        db.execute("update striped.worker set expires_at = '-infinity'")
        await pool.upkeep(job_id)
        assert state(db) == (0, None, 0, None)

    play(fresh_database, scene, BREAKS)


def test_a_late_settlement_does_not_count(db: psycopg.Connection, fresh_database: str) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        for resource in "abc":
            enqueue(db, resource)
        worker = await pool.register(job_id, "w")
        leases = await claimed(pool, job_id, worker)
        db.execute("update striped.stripe set fence = nextval('striped.fence') where resource <> 'a'")
        assert len(await settle(pool, job_id, worker, [failed(one) for one in leases])) == 2
        assert state(db) == (1, "ValueError", 0, None)

    play(fresh_database, scene, BREAKS)


def test_half_open_one_unit_of_one_resource_is_claimed_and_closes_it(
    db: psycopg.Connection, fresh_database: str
) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        first = await opened(db, pool, job_id)
        enqueue(db, "many", units=9)
        enqueue(db, "other")
        second = await pool.register(job_id, "x")
        half_open(db)
        await pool.upkeep(job_id)
        assert (await pool.poll(second)).claimable
        (probe,) = await claimed(pool, job_id, second, units=9)
        assert len(probe.ids) == 1
        assert await claimed(pool, job_id, second) == []
        assert await claimed(pool, job_id, first) == []
        assert not (await pool.poll(first)).claimable
        await settle(pool, job_id, second, [all_done(probe)])
        assert state(db) == (0, None, 0, None)
        assert len(await claimed(pool, job_id, first)) >= 4

    play(fresh_database, scene, BREAKS)


def test_a_probe_that_fails_opens_it_for_twice_as_long_and_uses_up_no_attempt(
    db: psycopg.Connection, fresh_database: str
) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        worker = await opened(db, pool, job_id)
        before = [attempts for _, _, attempts in units(db)]
        assert before == [1, 1, 0], "the try with which it opened was spared"
        for failures, opened_times, seconds in ((4, 2, 20), (5, 3, 35), (6, 4, 35)):
            half_open(db)
            (probe,) = await claimed(pool, job_id, worker)
            await settle(pool, job_id, worker, [failed(probe, to=Fate.DEAD)])
            assert state(db) == (failures, "ValueError", opened_times, seconds)
            assert [attempts for _, _, attempts in units(db)] == before
            assert {state for _, state, _ in units(db)} <= {"ready", "delayed"}
        half_open(db)
        (probe,) = await claimed(pool, job_id, worker)
        await settle(pool, job_id, worker, [failed(probe, "TimeoutError")])
        assert state(db) == (1, "TimeoutError", 5, 35)

    play(fresh_database, scene, BREAKS)


@pytest.mark.parametrize("way", ["Skip", "Dead", "Block"])
def test_what_fails_while_it_is_open_uses_up_no_attempt(
    db: psycopg.Connection, fresh_database: str, people: OwnerPool, way: str
) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        for resource in ("last", "between", "slow", "good"):
            enqueue(db, resource, units=2)
        db.execute("update striped.unit set attempts = 4")
        worker = await pool.register(job_id, "w")
        late = {one.resource: one for one in await claimed(pool, job_id, worker)}
        await opened(db, pool, job_id)
        again = failed(late["between"], "KeyError", *((Fate.READY, Then.WAIT) if way == "Block" else (Fate.DELAYED,)))
        await settle(pool, job_id, worker, [failed(late["last"], to=Fate.DEAD, then=Then.READY), again])
        assert state(db)[:3] == (3, "ValueError", 1)
        half_open(db)
        other = await pool.register(job_id, "x")
        (probe,) = await claimed(pool, job_id, other)
        await settle(pool, job_id, worker, [failed(late["slow"], to=Fate.DEAD), all_done(late["good"])])
        assert state(db)[:3] == (3, "ValueError", 1), "only the probe decides"
        await settle(pool, job_id, other, [Settlement(probe, Then.READY)])
        found = {(name, attempts) for name, _, attempts in units(db) if name in ("last", "between", "slow")}
        assert found == {("last", 4), ("between", 4), ("slow", 4)}
        assert people.status(job_id).dead == 0
        db.execute("select striped.resume_job(%s)", [job_id])
        half_open(db)
        last = "select array_agg(id order by id) from striped.unit where resource = 'last'"
        for _ in range(3):
            await pool.upkeep(job_id)
        found_again = {one.resource: one.ids for one in await claimed(pool, job_id, worker, units=9)}
        if way == "Block":
            assert db.execute(last).fetchone() == (list(found_again["last"]),), "in order"
        assert {"last", "between"} <= set(found_again)

    play(fresh_database, scene, replace(BREAKS, on_failure=way))


@pytest.mark.parametrize("end", ["died", "left", "given back", "held", "crashed", "resumed", "cancelled", "cleared"])
def test_the_place_of_a_probe_is_free_when_its_lease_is_over(
    db: psycopg.Connection, fresh_database: str, people: OwnerPool, end: str
) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        worker = await opened(db, pool, job_id)
        other = await pool.register(job_id, "x")
        half_open(db)
        (probe,) = await claimed(pool, job_id, worker)
        before = state(db)
        match end:
            case "died":
                db.execute("update striped.worker set expires_at = '-infinity' where id = %s", [worker])
            case "left":
                await pool.leave(worker)
            case "given back":
                await settle(pool, job_id, worker, [Settlement(probe, Then.READY)])
            case "held":
                fault = Failure(probe.ids[0], Fate.HELD, 0, 0, "ask ann")
                await settle(pool, job_id, worker, [Settlement(probe, Then.IDLE, (), (fault,))])
            case "crashed":
                fault = Failure(probe.ids[0], Fate.READY, 0, 1, "died")
                await settle(pool, job_id, worker, [Settlement(probe, Then.READY, (), (fault,))])
            case "resumed":
                await pool.resume(worker, 1, [])
            case "cancelled":
                people.cancel(job_id, None, probe.ids, "ann", "")
                await settle(pool, job_id, worker, [failed(probe)])
            case "cleared":
                people.clear(job_id)
                enqueue(db, "new")
        await pool.upkeep(job_id)
        assert state(db)[:3] == before[:3]
        assert (await pool.poll(other)).claimable
        assert len(await claimed(pool, job_id, other)) == 1
        assert await claimed(pool, job_id, other) == []

    play(fresh_database, scene, BREAKS)


def test_a_probe_whose_handler_recorded_it_itself_closes_it(db: psycopg.Connection, fresh_database: str) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        worker = await opened(db, pool, job_id)
        half_open(db)
        (probe,) = await claimed(pool, job_id, worker)
        values = [job_id, worker, probe.resource, probe.fence, list(probe.ids)]
        assert db.execute("select striped.complete(%s, %s, %s, %s, %s)", values).fetchone() == (True,)
        await settle(pool, job_id, worker, [Settlement(probe, Then.IDLE)])
        assert state(db) == (0, None, 0, None)

    play(fresh_database, scene, BREAKS)


def test_a_person_closes_it_and_an_apply_leaves_it_alone(
    db: psycopg.Connection, fresh_database: str, people: OwnerPool
) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        worker = await opened(db, pool, job_id)
        enqueue(db, "new")
        await pool.apply_job(replace(BREAKS, generation=2, breaker_failures=9))
        assert state(db)[:3] == (3, "ValueError", 1)
        assert people.pause(job_id, None, "ann", "")
        assert people.resume(job_id, None)
        assert state(db) == (0, None, 0, None)
        assert people.status(job_id).schedule_limit == 4
        assert not people.resume(job_id, None)
        (lease,) = await claimed(pool, job_id, worker)
        await pool.apply_job(replace(BREAKS, generation=3, breaker_failures=1))
        await settle(pool, job_id, worker, [failed(lease)])
        assert state(db)[:3] == (1, "ValueError", 1)
        assert people.resume(job_id, None), "open, and not paused"
        assert people.status(job_id).schedule_limit == 4
        half_open(db)
        (lease, *_) = await claimed(pool, job_id, worker)
        await settle(pool, job_id, worker, [failed(lease)])
        assert state(db)[2] == 1
        await pool.apply_job(replace(BREAKS, generation=4, breaker_failures=0))
        assert state(db) == (0, None, 0, None)
        settings = people.settings("default", "sync")
        assert settings == replace(BREAKS, generation=4, breaker_failures=0)

    play(fresh_database, scene, BREAKS)


def test_a_probe_that_is_out_when_a_person_closes_it_decides_nothing_any_more(
    db: psycopg.Connection, fresh_database: str, people: OwnerPool
) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        worker = await opened(db, pool, job_id)
        half_open(db)
        (probe,) = await claimed(pool, job_id, worker)
        assert people.resume(job_id, None)
        await settle(pool, job_id, worker, [failed(probe)])
        assert state(db) == (1, "ValueError", 0, None)

    play(fresh_database, scene, BREAKS)


@pytest.mark.parametrize("throttled", [False, True])
def test_a_delegator_assigns_nothing_while_it_is_open_and_then_the_probe_alone(
    db: psycopg.Connection, fresh_database: str, *, throttled: bool
) -> None:
    def delegated(job_id: int, term: int) -> int:
        row = db.execute("select assigned from striped.delegate(%s, %s)", [job_id, term]).fetchone()
        assert row is not None
        return int(row[0])

    async def scene(pool: WorkerPool, job_id: int) -> None:
        row = db.execute("select striped.lead(%s, 'd')", [job_id]).fetchone()
        assert row is not None
        term = row[0]
        for resource in "abcdefgh":
            enqueue(db, resource)
        workers = [await pool.register(job_id, name) for name in "xy"]
        for worker in workers:
            assert await claimed(pool, job_id, worker) == []
        assert delegated(job_id, term) == 4
        leases = await pool.claim(workers[0], 64, 1)
        assert len(leases) == 2
        await settle(pool, job_id, workers[0], [failed(one) for one in leases])
        for worker in workers:
            assert await claimed(pool, job_id, worker) == []
        assert count(db, "select count(*) from striped.stripe where state = 'assigned'") == 0
        assert delegated(job_id, term) == 0
        half_open(db)
        for worker in workers:
            assert (await pool.poll(worker)).claimable
            assert await claimed(pool, job_id, worker) == []
        assert delegated(job_id, term) == 1
        assert delegated(job_id, term) == 0
        found = [one for worker in workers for one in await pool.claim(worker, 64, 1)]
        assert len(found) == 1
        assert delegated(job_id, term) == 0

    job = replace(BREAKS, breaker_failures=2, delegated=True)
    play(fresh_database, scene, replace(job, outstanding_max=9, starts_max=99, period_seconds=1) if throttled else job)


def test_who_sleeps_for_it_wakes_when_it_is_half_open(db: psycopg.Connection, fresh_database: str) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        worker = await opened(db, pool, job_id)
        await settle(pool, job_id, worker, [])
        seconds = (await pool.poll(worker)).sleep_seconds
        assert 0.5 < seconds <= 1

    play(fresh_database, scene, replace(BREAKS, backoff_seconds=0))


def test_what_is_done_asks_nothing_of_it_and_writes_nothing(db: psycopg.Connection, fresh_database: str) -> None:
    async def scene(pool: WorkerPool, job_id: int) -> None:
        enqueue(db, "a", units=3)
        worker = await pool.register(job_id, "w")
        for _ in range(3):
            (lease,) = await claimed(pool, job_id, worker)
            before = count(db, "select xmin::text::bigint from striped.job")
            await settle(pool, job_id, worker, [all_done(lease)])
            assert count(db, "select xmin::text::bigint from striped.job") == before

    for function in ("breaker_admits", "lock_probe", "heed_breaker", "judge_probe", "open_breaker", "close_breaker"):
        db.execute(f"drop function striped.{function}".encode())
    play(fresh_database, scene, BREAKS)


@pytest.mark.parametrize(
    ("before", "kinds", "after"),
    [
        ((None, 0), ["a"], ("a", 1, None)),
        (("a", 1), ["a"], ("a", 2, None)),
        (("a", 2), ["a", "a", "a"], ("a", 3, 1)),
        (("a", 2), ["b", "a", "a"], ("a", 2, None)),
        (("b", 9), ["b"], ("b", 10, 1)),
        ((None, 0), ["b", "a", "a", "a", "b"], ("a", 3, 4)),
        (("a", 1), ["a", None, None, None], ("a", 2, None)),
        (("a", 1), ["b", None, "b", "b", None], ("b", 3, 4)),
    ],
)
def test_a_run_is_of_one_kind(
    db: psycopg.Connection, before: tuple[str | None, int], kinds: list[str | None], after: tuple[str, int, int | None]
) -> None:
    assert db.execute("select * from striped.breaker_run(%s, %s, %s, 3)", [*before, kinds]).fetchone() == after
