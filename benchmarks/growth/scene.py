"""A pool with its crew, and what is measured of it: units a second, CPU a unit, beside another one in turn."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from local import WARM_RESOURCES, WARM_UNITS, await_, crew, fill, fold, job
from servers import Servers, below_seconds, durable, own_seconds, tree_seconds

from stripedjob.local.processes import ProcessGroup
from stripedjob.pool.client.owner import OwnerPool
from stripedjob.settings import job_settings
from stripedjob.spec.model import StripedJob

WORKERS = 2
CHUNK_UNITS = 1_000_000  # that one statement puts in, which then takes some seconds
PATIENCE_SECONDS = 300.0
CPU = ("postgres", "workers", "locks")
DONE = """
select (select done from striped.job where id = %(job)s)
    + (select coalesce(sum(done), 0) from striped.worker where job_id = %(job)s)"""
WAL = "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint"
Row = dict[str, Any]
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Site:
    """What every measure is given: where the handlers are, whether all is to be small, how to say how far it is."""

    path: Path
    quick: bool
    minutes: float
    say: Say

    def size(self, full: int) -> int:
        """Return a number of units or resources: a tenth where it is to be quick."""
        return full // 10 if self.quick else full

    def seconds(self, full: float) -> float:
        """Return a time: a third where it is to be quick."""
        return full / 3 if self.quick else full


@dataclass(frozen=True, slots=True)
class Scene:
    """A durable Postgres, a Valkey, one job and its workers, who have worked a little."""

    servers: Servers
    pool: OwnerPool
    one: StripedJob
    job_id: int
    there: ProcessGroup

    def value(self, query: str, **values: Any) -> Any:
        """Return the one value that a query returns; %(job)s is the job."""
        row = self.pool.conn.execute(query.encode(), {"job": self.job_id} | values).fetchone()
        assert row is not None
        return row[0]

    def close(self) -> None:
        """Let nobody work, and wait until nobody does."""
        self.pool.apply(replace(job_settings(self.one), schedule_limit=0))
        await_("the workers rest", lambda: self.pool.status(self.job_id).working == 0)

    def open(self) -> None:
        """Let them work."""
        self.pool.apply(job_settings(self.one))

    def done(self) -> int:
        """Return how many units are done."""
        return int(self.value(DONE))

    def reading(self) -> Row:
        """Return what was done and spent until now."""
        mains = [member.process.pid for member in self.there.members]
        return {
            "units": self.done(),
            "seconds": time.perf_counter(),
            "postgres": tree_seconds(self.servers.postgres.pid, without=self.pool.conn.info.backend_pid),
            "workers": sum(map(own_seconds, mains)) + sum(map(below_seconds, mains)),
            "locks": tree_seconds(self.servers.valkey.pid),
            "wal": self.value(WAL),
        }

    def spent(self, before: Row) -> Row:
        """Return what was done and spent since."""
        after = self.reading()
        return {name: after[name] - before[name] for name in before}

    def work(self, units: int) -> Row:
        """Let the crew work until so many more units are done or nothing is left, and give what that took."""
        before = self.reading()
        self.open()
        await_("the units are done", lambda: self._is_done(before["units"] + units), PATIENCE_SECONDS)
        spent = self.spent(before)
        self.close()
        return spent

    def empty(self) -> None:
        """Let the crew work until nothing is left."""
        self.open()
        await_("all is done", lambda: self.pool.is_empty(self.job_id), PATIENCE_SECONDS)
        self.close()

    def _is_done(self, goal: int) -> bool:
        return self.done() >= goal or self.pool.is_empty(self.job_id)


@contextmanager
def scene(site: Site, workers: int = WORKERS, *, warm: bool = True, **spec: Any) -> Iterator[Scene]:
    """Start servers and workers, let them work a little, and let nobody work then."""
    one = job("growth", **spec)
    with durable() as servers, OwnerPool.open(servers.postgres.url, statement_seconds=PATIENCE_SECONDS) as pool:
        pool.migrate()
        job_id = pool.apply(replace(job_settings(one), schedule_limit=0))
        with crew(one, *servers.urls, workers, site.path) as there:
            made = Scene(servers, pool, one, job_id, there)
            await_("the workers are there", lambda: len(pool.workers(job_id)) == workers)
            if workers and warm:
                load(made, WARM_UNITS, WARM_RESOURCES, payload=time.time(), prefix="warm")
                made.empty()
            yield made


def load(
    there: Scene, units: int, resources: int, *, payload: float = 0, prefix: str = "resource", folded: bool = False
) -> None:
    """Put units in, resource by resource in large chunks, and round and round within a chunk."""
    chunks = max(1, units // CHUNK_UNITS)
    for chunk in range(chunks):
        few = max(1, resources // chunks)
        fill(there.pool, there.job_id, units // chunks, few, payload, prefix=f"{prefix}-{chunk % resources}")
    if folded:
        fold(there.pool, there.job_id)


def rate(spent: Row) -> float:
    """Return units a second."""
    return float(spent["units"] / spent["seconds"])


def micros(spent: Row) -> Row:
    """Return CPU microseconds a unit, by kind of process and of all."""
    units = max(1, spent["units"])
    each = {f"{name}_us": round(spent[name] * 1e6 / units, 1) for name in CPU}
    return each | {"all_us": round(sum(spent[name] for name in CPU) * 1e6 / units, 1)}


def summed(rounds: list[Row]) -> Row:
    """Add up what rounds took."""
    return {name: sum(one[name] for one in rounds) for name in rounds[0]}


def beside(what: str, small: list[Row], grown: list[Row]) -> Row:
    """Return the row of rounds that were measured in turn: the grown case, the small one, and their ratios."""
    of_small, of_grown = micros(summed(small)), micros(summed(grown))
    return {
        "what": what,
        "units_per_second": round(statistics.median(map(rate, grown))),
        "small": round(statistics.median(map(rate, small))),
        "ratio": round(statistics.median(map(rate, grown)) / statistics.median(map(rate, small)), 2),
        **of_grown,
        "small_all_us": of_small["all_us"],
        "us_ratio": round(of_grown["all_us"] / max(0.1, of_small["all_us"]), 2),
        "wal_bytes": round(summed(grown)["wal"] / max(1, summed(grown)["units"])),
        "small_wal_bytes": round(summed(small)["wal"] / max(1, summed(small)["units"])),
    }
