"""What went wrong with the userspace mutex and its delegator happens here, and beside it ours on the same rows.

The defects have the numbers of the study that found them: D1 work done more than once, D2 rows out of order, D3 rows
that nobody comes for, D11 a delegator that rescans a busy head, D20 lock tries without end.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import psycopg
import pytest
from tests.reference.delegator import Delegator
from tests.reference.mutex import Replay, fill
from tests.support.executions import Execution, inversions, overlaps, read_log
from tests.support.worker_env import PATIENCE_SECONDS, Site

from stripedjob.pool.client.worker import WorkerPool
from stripedjob.pool.types import JobSettings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SEED = 6  # of the interleaving: one that strands rows, as most do
BUSY = [f"busy-{number % 20:02}" for number in range(100)]
FREE = [f"free-{number:03}" for number in range(900)]
SCANS = 20
IDLE_QUERIES_A_SECOND_MAX = 10
WINDOW_SECONDS, WINDOWS_MAX = 2.5, 4  # now and then autovacuum, or what was counted late, adds to one


def spread(rows: int, resources: int) -> list[str]:
    rng = random.Random(7)
    return [f"r{rng.randrange(resources)}" for _ in range(rows)]


class Ours:
    """The same rows, with so many whole workers."""

    def __init__(self, url: str, lock_url: str | None, log: Path, workers: int) -> None:
        self.workers, self.log = workers, log
        self.site = Site(url, lock_url, JobSettings("default", "sync", schedule_limit=workers))

    def play(self, resources: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> list[Execution]:
        monkeypatch.setenv("STRIPEDJOB_TEST_LOG", str(self.log))
        self.site.enqueue(resources)
        self.site.drain(self.site.handler("logged"), self.workers)
        return read_log(self.log)


@pytest.mark.acceptance("A30")
@pytest.mark.acceptance("A31")
@pytest.mark.parametrize("workers", [8, 19])
def test_d1_rows_done_again_and_d20_lock_tries(
    fresh_database: str, fresh_valkey: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    rows = spread(1_000, 100)  # a tenth of the seed workload
    replay = Replay(fresh_database, fresh_valkey, workers, SEED).play(rows)
    assert len(replay.executions) > 3 * len(rows)
    assert replay.lock_tries > 5 * len(rows)

    ours = Ours(fresh_database, fresh_valkey, tmp_path / "log", workers)
    done = ours.play(rows, monkeypatch)
    assert sorted(one.unit for one in done) == list(range(1, len(rows) + 1))
    assert overlaps(done) == 0
    status = ours.site.status()
    assert status["total_lock_tries"] <= 1.5 * status["total_claimed"] + len(rows) / 100
    assert status["total_lock_refusals"] == 0


@pytest.mark.acceptance("A33")
def test_d2_rows_out_of_order(
    fresh_database: str, fresh_valkey: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = spread(2_000, 10)
    replay = Replay(fresh_database, fresh_valkey, 8, SEED).play(rows)
    assert inversions(replay.executions) > 100

    done = Ours(fresh_database, fresh_valkey, tmp_path / "log", 8).play(rows, monkeypatch)
    assert (len(done), inversions([(one.resource, one.unit) for one in done])) == (2_000, 0)


@pytest.mark.acceptance("A32")
def test_d3_rows_that_nobody_comes_for(
    fresh_database: str, fresh_valkey: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = spread(2_000, 1)
    replay = Replay(fresh_database, fresh_valkey, 8, SEED).play(rows)
    assert replay.stranded > 100

    ours = Ours(fresh_database, fresh_valkey, tmp_path / "log", 8)
    assert len(ours.play(rows, monkeypatch)) == 2_000
    assert ours.site.sql("select count(*) from striped.unit") == [(0,)]


def test_d11_a_delegator_rescans_a_busy_head(fresh_database: str) -> None:
    with psycopg.connect(fresh_database, autocommit=True) as conn:
        fill(conn, [*BUSY, *FREE])
        delegator = Delegator(conn)
        assert not delegator.run(SCANS)
        assert sorted(delegator.assigned) == sorted(set(BUSY))  # once each, and after that nothing
        assert delegator.queries > SCANS * 100


@pytest.mark.acceptance("A22")
def test_a_busy_head_costs_ours_nothing(fresh_database: str, fresh_valkey: str) -> None:
    site = Site(fresh_database, fresh_valkey, JobSettings("default", "sync", schedule_limit=8, lease_seconds=60))
    rates: list[float] = []

    async def scene() -> None:
        async with (
            AsyncExitStack() as stack,
            asyncio.timeout(PATIENCE_SECONDS),
            WorkerPool.open(site.url) as holder,
        ):
            await hold(site, holder)
            site.enqueue(FREE)
            crew = [await site.worker(stack, site.handler("act")) for _ in range(4)]
            runs = [asyncio.create_task(worker.run()) for worker in crew]
            while site.status()["total_done"] < len(FREE):
                await asyncio.sleep(0.05)
            while len(rates) < WINDOWS_MAX and min(rates, default=float("inf")) >= IDLE_QUERIES_A_SECOND_MAX:
                rates.append(await transactions_a_second(site))
            for worker in crew:
                worker.drain()
            await asyncio.gather(*runs)

    asyncio.run(scene())
    assert site.sql("select distinct substr(resource, 1, 5), count(*) over () from striped.unit") == [("busy-", 100)]
    assert 0 < min(rates) < IDLE_QUERIES_A_SECOND_MAX


async def hold(site: Site, holder: WorkerPool) -> None:
    """Lease every busy resource, as a worker that takes its time does."""
    site.enqueue(BUSY)
    me = await holder.register(site.job_id, "holder")
    await holder.upkeep(site.job_id)
    held: set[str] = set()
    while leases := await holder.claim(me, 64, 100):
        held |= {lease.resource for lease in leases}
    assert held == set(BUSY)


async def transactions_a_second(site: Site) -> float:
    query = "select pg_stat_clear_snapshot(), xact_commit from pg_stat_database where datname = current_database()"
    before = site.sql(query)[0][1]
    await asyncio.sleep(WINDOW_SECONDS)
    return float((site.sql(query)[0][1] - before) / WINDOW_SECONDS)
