"""Units a second of each strategy on the seed workload, beside Mutex; and of free resources behind busy ones.

Run by `scripts/bench strategies`. Embedded engines, whole worker processes, a handler that does nothing. The clock
runs as in local.py. The strategies take turns, ROUNDS times, so that a machine whose speed drifts drifts for all; the
median counts. For the second part 20 resources with 100,000 units are leased to somebody else all the time, and stand
in front of 100,000 free ones; the same is measured without them.
"""

import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from local import WARM_RESOURCES, WARM_UNITS, await_, crew, fill, fold, job

from stripedjob.local.engines import embedded
from stripedjob.pool.client.owner import OwnerPool
from stripedjob.settings import job_settings
from stripedjob.spec.model import StripedJob

SPECS: dict[str, dict[str, Any]] = {
    "Mutex": {},
    "FIFO": {},
    "Delegator": {},
    "Throttled": {"throttle": {"maxOutstanding": 10_000, "rate": 1_000_000, "periodSeconds": 1}},  # never reached
}
WORKERS = 4
ROUNDS = 5
SEED = (10_000, 1_000)
BUSY = (100_000, 20)
FREE = (100_000, 100_000)
BUSY_ROUNDS = 5
HOLDER = "select striped.register(%(job)s, 'holder')"
LEASE_BUSY = """
with holder as (
    update striped.worker set expires_at = 'infinity' where job_id = %(job)s and name = 'holder' returning id)
update striped.stripe s set state = 'leased', worker_id = holder.id, fence = nextval('striped.fence'),
    leased_at = clock_timestamp()
from holder where s.job_id = %(job)s"""
DONE = """
select (select done from striped.job where id = %(job)s)
    + (select coalesce(sum(done), 0) from striped.worker where job_id = %(job)s)"""


@dataclass(slots=True)
class Contestant:
    """One strategy's job, with its crew at hand."""

    one: StripedJob
    pool: OwnerPool
    job_id: int

    def close(self) -> None:
        """Let nobody work, and wait until nobody does."""
        self.pool.apply(replace(job_settings(self.one), schedule_limit=0))
        await_("the workers rest", lambda: self.pool.status(self.job_id).working == 0)

    def timed(self, units: int) -> float:
        """Let the crew work, and give the units a second until so many are done."""
        goal, began = self._done() + units, time.perf_counter()
        self.pool.apply(job_settings(self.one))
        await_("all is done", lambda: self._done() >= goal)
        return units / (time.perf_counter() - began)

    def race(self, units: int, resources: int) -> float:
        """Fill the pool and work it off."""
        self.close()
        fill(self.pool, self.job_id, units, resources)
        return self.timed(units)

    def _done(self) -> int:
        row = self.pool.conn.execute(DONE, {"job": self.job_id}).fetchone()
        return int(row[0]) if row else 0


@contextmanager
def contestant(strategy: str, urls: tuple[str, str], path: Path) -> Iterator[Contestant]:
    """Start a crew for a strategy, and let it warm up."""
    one = job(strategy.lower(), strategy=strategy, **SPECS[strategy])
    with OwnerPool.open(urls[0]) as pool:
        pool.migrate()
        job_id = pool.apply(job_settings(one))
        with crew(one, *urls, WORKERS, path):
            await_("the workers are there", lambda: len(pool.workers(job_id)) == WORKERS)
            made = Contestant(one, pool, job_id)
            made.race(WARM_UNITS, WARM_RESOURCES)
            yield made


def seed(path: Path) -> list[dict[str, Any]]:
    """Measure the seed workload."""
    rates: dict[str, list[float]] = {strategy: [] for strategy in SPECS}
    with embedded() as engines, ExitStack() as stack:
        urls = (engines.postgres_url, engines.valkey_url)
        there = {strategy: stack.enter_context(contestant(strategy, urls, path)) for strategy in SPECS}
        for one in there.values():
            one.close()
        for _ in range(ROUNDS):
            for strategy, one in there.items():
                rates[strategy].append(one.race(*SEED))
                one.close()
    median = {strategy: statistics.median(found) for strategy, found in rates.items()}
    return [
        {
            "workload": "seed",
            "strategy": strategy,
            "units_per_second": round(rate),
            "of_mutex": round(rate / median["Mutex"], 2),
        }
        for strategy, rate in median.items()
    ]


def busy_head(strategy: str, path: Path) -> dict[str, Any]:
    """Measure free resources behind busy ones, and without them."""
    rates: dict[bool, list[float]] = {False: [], True: []}
    for busy in (False, True) * BUSY_ROUNDS:
        with embedded() as engines, contestant(strategy, (engines.postgres_url, engines.valkey_url), path) as one:
            one.close()
            if busy:
                fill(one.pool, one.job_id, *BUSY)
                fold(one.pool, one.job_id)
                for statement in (HOLDER, LEASE_BUSY):
                    one.pool.conn.execute(statement, {"job": one.job_id})
            fill(one.pool, one.job_id, *FREE, prefix="free")
            rates[busy].append(one.timed(FREE[0]))
    alone, behind = (statistics.median(rates[busy]) for busy in (False, True))
    return {
        "workload": "busy head",
        "strategy": strategy,
        "units_per_second": round(behind),
        "without_busy": round(alone),
        "ratio": round(behind / alone, 2),
    }


def main(path: Path, _options: object) -> list[dict[str, Any]]:
    """Measure what is promised of the strategies."""
    return seed(path) + [busy_head(strategy, path) for strategy in SPECS]
