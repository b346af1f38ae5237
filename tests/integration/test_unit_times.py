"""How long units wait and run: measured by whole workers, kept in the pool, and asked for."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from prometheus_client import generate_latest
from tests.support.pool_calls import JOB
from tests.support.worker_env import PATIENCE_SECONDS, Site, drained

from stripedjob.pool.client.operator import OperatorPool
from stripedjob.pool.client.owner import OwnerPool
from stripedjob.pool.client.worker import WorkerPool
from stripedjob.pool.types import News
from stripedjob.runtime.metrics import registry_of
from stripedjob.runtime.worker import chores
from stripedjob.runtime.worker.decide import RetryPolicy
from stripedjob.times import BUCKETS, bucket

if TYPE_CHECKING:
    from stripedjob.runtime.handlers.settings import HandlerSettings

pytestmark = pytest.mark.migrated


def counted(counts: list[int]) -> dict[int, int]:
    return {place: count for place, count in enumerate(counts) if count}


def total(site: Site) -> tuple[dict[int, int], dict[int, int]]:
    """Return the counts of waits and runs since the job was made, by bucket."""
    ((waits, runs),) = site.sql("select waits, runs from striped.times where minute = '-infinity'")
    return counted(waits), counted(runs)


def drain(site: Site, handler: HandlerSettings, **options: Any) -> str:
    """Work with one worker until nothing is left; returns what its /metrics says then."""

    async def scene() -> str:
        async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE_SECONDS):
            worker = await site.worker(stack, handler, **options)
            await drained(site, [worker])
            return generate_latest(registry_of(worker._observer)).decode()

    return asyncio.run(scene())


def put(site: Site, resource: str, payload: str = "0", *, age: float = 0.0, due: float | None = None) -> None:
    """Put a unit in that was enqueued, and became due, so many seconds ago."""
    site.sql(
        "insert into striped.unit (job_id, resource, payload, enqueued_at, due_at) values"
        " (%s, %s, %s, now() - make_interval(secs => %s), now() - make_interval(secs => %s))",
        [site.job_id, resource, payload, age, due],
    )


def test_units_are_counted_by_how_long_they_waited_and_ran(fresh_database: str) -> None:
    site = Site(fresh_database)
    put(site, "a", "0.3", age=700)
    put(site, "b", "0.3", age=7000)
    put(site, "c", "0.3", age=7000, due=90)
    put(site, "d", "0.3", age=70, due=7000)  # a due time before it was put in counts for nothing
    metrics = drain(site, site.handler("act_slowly"))
    waits, runs = total(site)
    assert waits == {bucket(700): 1, bucket(7000): 1, bucket(90): 2}
    assert min(runs) >= bucket(0.3)
    assert sum(runs.values()) == 4
    assert 'stripedjob_unit_wait_seconds_bucket{job_type="default/sync",le="120.0"} 2.0' in metrics
    assert 'stripedjob_unit_wait_seconds_count{job_type="default/sync"} 4.0' in metrics
    assert 'stripedjob_unit_run_seconds_bucket{job_type="default/sync",le="0.1"} 0.0' in metrics
    assert 'stripedjob_unit_run_seconds_count{job_type="default/sync"} 4.0' in metrics


@pytest.mark.parametrize("slots", [1, 4])
def test_many_quick_units_are_all_counted(fresh_database: str, slots: int) -> None:
    site = Site(fresh_database)
    site.fill(2000, 40)
    drain(site, site.handler("act"), slots=slots)
    waits, runs = total(site)
    assert sum(waits.values()) == sum(runs.values()) == 2000
    assert runs[0] > 1500


def test_what_was_said_is_not_said_again(fresh_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chores, "TIMES_SECONDS", 0.0)
    site = Site(fresh_database)
    site.fill(200, 200)
    drain(site, site.handler("act"))
    waits, runs = total(site)
    assert sum(waits.values()) == sum(runs.values()) == 200


def test_an_idle_worker_says_it_too(fresh_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chores, "TIMES_SECONDS", 1.0)
    site = Site(fresh_database)

    async def scene() -> None:
        async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE_SECONDS):
            worker = await site.worker(stack, site.handler("act"))
            run = asyncio.create_task(worker.run())
            for units in (1, 2):
                put(site, "a")
                while not site.sql("select 1 from striped.times where minute = '-infinity' and runs[1] = %s", [units]):
                    await asyncio.sleep(0.1)
            worker.drain()
            await run

    asyncio.run(scene())


def test_the_units_of_a_transaction_are_counted_without_its_commit(fresh_database: str) -> None:
    site = Site(fresh_database)
    site.sql(
        "create function slow() returns trigger language plpgsql as 'begin perform pg_sleep(0.3); return null; end';"
        "create constraint trigger slow after delete on striped.unit deferrable initially deferred"
        " for each row when (mod(old.id, 20) = 0) execute function slow()"
    )
    site.fill(200, 2)
    drain(site, site.handler("record", database=site.database))
    waits, runs = total(site)
    assert sum(waits.values()) == sum(runs.values()) == 200
    assert sum(units for place, units in runs.items() if place >= bucket(0.3)) <= 2  # those that had their own


def test_units_of_a_resource_share_their_call(fresh_database: str) -> None:
    site = Site(fresh_database)
    for age in (3000, 2000, 1000):
        put(site, "a", '{"extend": 9, "pause": 0.3}', age=age)
    drain(site, site.handler("stretch_batch", per_resource=True))
    waits, runs = total(site)
    assert waits == {bucket(3000): 2, bucket(1000): 1}
    assert [(place >= bucket(0.3), units) for place, units in runs.items()] == [(True, 3)]


def test_what_ran_over_its_time_is_counted_as_that(fresh_database: str) -> None:
    site = Site(fresh_database, policy=RetryPolicy(attempts_max=1))
    put(site, "a", '"hang"', age=50)
    drain(site, site.handler("act", timeout_seconds=1.2))
    assert total(site) == ({bucket(50): 1}, {bucket(1.4): 1})


@pytest.mark.parametrize("way", ["Skip", "Block"])
def test_a_second_try_waits_since_it_was_due(fresh_database: str, way: Any) -> None:
    site = Site(fresh_database, policy=RetryPolicy(attempts_max=2, backoff_seconds=0.3, on_failure=way))
    site.job = replace(site.job, on_failure=way)
    site.apply()
    put(site, "a", '"error"', age=5000)
    drain(site, site.handler("act"))
    waits, runs = total(site)
    assert waits.pop(bucket(5000)) == 1
    ((second, times),) = waits.items()
    assert times == 1
    assert second <= bucket(3)
    assert sum(runs.values()) == 2


def test_a_unit_that_a_person_revives_waits_since_then(fresh_database: str) -> None:
    site = Site(fresh_database, policy=RetryPolicy(attempts_max=1))
    put(site, "a", '"error"', age=5000)
    drain(site, site.handler("act"))
    assert site.sql("select striped.revive(%s, 'dead', null, null, 10)", [site.job_id]) == [(1,)]
    drain(site, site.handler("act"))
    waits, _ = total(site)
    assert waits.pop(bucket(5000)) == 1
    assert max(waits) <= bucket(30)


@pytest.mark.parametrize("moment", ["infinity", "-infinity", "290000-01-01", "4000-01-01 BC"])
def test_any_time_of_a_unit_can_be_counted(fresh_database: str, moment: str) -> None:
    site = Site(fresh_database)
    site.sql(
        "insert into striped.unit (job_id, resource, enqueued_at) values (%s, 'a', %s::timestamptz)",
        [site.job_id, moment],
    )
    with OperatorPool.open(fresh_database) as pool:
        pool.measures([site.job_id])
    drain(site, site.handler("act"))
    waits, _ = total(site)
    ((place, units),) = waits.items()
    assert units == 1
    assert place == BUCKETS - 1 or place <= bucket(5)  # never more than any wait, or nothing but the claim's


def news(*places: int) -> News:
    counts = [places.count(place) for place in range(BUCKETS)]
    return News(counts, 1.5, counts, 0.5)


@pytest.fixture
def pool(fresh_database: str) -> Any:
    with OwnerPool.open(fresh_database) as opened:
        opened.migrate()
        yield opened


def note(url: str, job_id: int, *said: News) -> None:
    async def run() -> None:
        async with WorkerPool.open(url) as worker:
            for one in said:
                await worker.note_times(job_id, one)

    asyncio.run(run())


def test_what_workers_say_is_kept_by_minute_for_an_hour_and_all_in_all(pool: Any, fresh_database: str) -> None:
    job_id = pool.apply(JOB)
    note(fresh_database, job_id, news(1, 1), news(1, 5))
    pool.conn.execute("update striped.times set minute = minute - interval '3 minutes' where minute > '-infinity'")
    note(fresh_database, job_id, news(2))
    assert counted(pool.times(job_id, 5)["waits"]) == {1: 3, 2: 1, 5: 1}
    assert pool.times(job_id, 5)["wait_seconds"] == pytest.approx(4.5)
    assert counted(pool.times(job_id, 2)["runs"]) == {2: 1}
    assert 240 <= pool.times(job_id, 5)["seconds"] <= 300
    pool.conn.execute("update striped.times set minute = minute - interval '1 hour' where minute > '-infinity'")
    assert pool.times(job_id, 9999)["waits"] == []
    pool.conn.execute("update striped.turn set at = '-infinity'")
    pool.clean([job_id])
    assert pool.conn.execute("select count(*) from striped.times").fetchone() == (1,)
    (measured,) = pool.measures([job_id])
    assert counted(measured.waits) == {1: 3, 2: 1, 5: 1}
    assert (measured.wait_seconds, measured.run_seconds) == (pytest.approx(4.5), pytest.approx(1.5))


def test_what_is_measured_of_a_job_that_nothing_was_said_of(pool: Any) -> None:
    job_id = pool.apply(JOB)
    (measured,) = pool.measures([job_id])
    assert (measured.oldest_seconds, measured.waits, measured.runs, measured.run_seconds) == (None, [], [], 0)
    assert pool.times(job_id, 5)["runs"] == []


def test_the_oldest_unit_is_the_one_that_could_be_claimed_first(pool: Any) -> None:
    job_id = pool.apply(JOB)
    pool.conn.execute(
        "insert into striped.unit (job_id, resource, enqueued_at, due_at, state) values"
        " (%s, 'a', now() - interval '1 day', now() - interval '1 hour', 'delayed'),"
        " (%s, 'b', now() - interval '10 min', null, 'ready')",
        [job_id, job_id],
    )
    pool.upkeep(job_id)
    (measured,) = pool.measures([job_id])
    assert 3600 <= measured.oldest_seconds < 3700


HOSTILE = [
    "array[-1], 0, array[1], 0",
    "array[1], 0, array[null]::bigint[], 0",
    "array_fill(1, array[65]), 0, array[1], 0",
    "array[9000000000], 0, array[1], 0",
    "array[1], 'nan', array[1], 0",
    "array[1], 0, array[1], -1",
    "array[1], 0, array[1], 'infinity'",
    "null, 0, array[1], 0",
    "array[1], null, array[1], 0",
]


@pytest.mark.parametrize("values", HOSTILE)
def test_what_are_no_counts_are_refused(pool: Any, values: str) -> None:
    job_id = pool.apply(JOB)
    with pytest.raises(psycopg.errors.DataException, match="no counts of times"):
        pool.conn.execute(f"select striped.note_times({job_id}, {values})".encode())


def test_counts_of_another_length_are_added_up(pool: Any) -> None:
    job_id = pool.apply(JOB)
    for counts in ("{1,2}", "{1,1,1}", "{}"):
        pool.conn.execute("select striped.note_times(%s, %s, 0, %s, 0)", [job_id, counts, counts])
    assert pool.times(job_id, 5)["waits"] == [2, 3, 1]
    pool.conn.execute("select striped.note_times(%s, '{1}', 0, '{1}', 0)", [job_id + 1000])  # a job that is gone
