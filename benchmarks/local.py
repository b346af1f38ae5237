"""Units a second of whole workers with a handler that does nothing, beside a raw SKIP LOCKED dequeue of such rows.

Run by `scripts/bench local`. A durable Postgres, worker processes as `stripedjob run` starts them. The pool is filled
as users fill it, by one statement, and nothing is folded or analyzed then. The clock runs from the moment when the
job's limit is raised from 0, right after the commit, until the pool is empty; the workers are there already, as pods
are, and have worked a little. The rows of the raw dequeue are analyzed first, so that it is as quick as it can be.
"""

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from servers import durable

from stripedjob.local.processes import ProcessGroup
from stripedjob.pool.client.owner import OwnerPool
from stripedjob.settings import job_settings
from stripedjob.spec.model import StripedJob

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue
    from multiprocessing.synchronize import Barrier

RAW_CLIENTS = 2
RAW_BATCH = 1000
WARM_UNITS, WARM_RESOURCES = 4000, 400  # worked first, so that plans are cached, as in workers of some age
POLL_SECONDS = 0.005
PATIENCE_SECONDS = 120.0
RAW = """
delete from striped.unit where id = any(array(
    select id from striped.unit where job_id = %s and state = 'ready' order by id limit %s for update skip locked))
returning id, resource, payload"""


@dataclass(frozen=True, slots=True)
class Result:
    """One size: units a second of the workers and of the raw dequeue, and their ratio."""

    units: int
    resources: int
    workers: int
    units_per_second: float
    raw_units_per_second: float
    ratio: float


def job(name: str, **spec: Any) -> StripedJob:
    """Make a StripedJob for a benchmark."""
    return StripedJob.model_validate(
        {
            "apiVersion": "striped.dev/v1alpha1",
            "kind": "StripedJob",
            "metadata": {"name": name},
            "spec": {"handler": {"python": "noop:act"}, "scheduleLimit": 100} | spec,
        }
    )


def fill(
    pool: OwnerPool, job_id: int, units: int, resources: int, payload: float = 0.0, *, prefix: str = "resource"
) -> None:
    """Put units in, round and round over the resources."""
    pool.conn.execute(
        "insert into striped.unit (job_id, resource, payload)"
        " select %s, %s || '-' || n %% %s, %s::text::json from generate_series(1, %s) n",
        [job_id, prefix, resources, payload, units],
    )


def fold(pool: OwnerPool, job_id: int) -> None:
    """Fold all wakes into stripes."""
    while pool.conn.execute("select 1 from striped.wake where job_id = %s limit 1", [job_id]).fetchone():
        pool.upkeep(job_id)


def take_raw(url: str, job_id: int, ready: "Barrier", ends: "SimpleQueue[float]") -> None:
    """Be one client of the raw dequeue; tells when it found nothing more."""
    with psycopg.connect(url, autocommit=True) as conn:
        ready.wait()
        while conn.execute(RAW, [job_id, RAW_BATCH], binary=True).fetchall():
            pass
        ends.put(time.monotonic())


def raw(pool: OwnerPool, url: str, units: int, resources: int) -> float:
    """Return the units a second of a plain dequeue of the same rows: two clients, batches of 1,000."""
    job_id = pool.apply(replace(job_settings(job("raw")), schedule_limit=0))
    fill(pool, job_id, units, resources)
    pool.conn.execute("analyze striped.unit")
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(RAW_CLIENTS + 1)
    ends: SimpleQueue[float] = context.SimpleQueue()
    clients = [context.Process(target=take_raw, args=(url, job_id, ready, ends)) for _ in range(RAW_CLIENTS)]
    for client in clients:
        client.start()
    ready.wait()
    began = time.monotonic()
    for client in clients:
        client.join()
    return units / (max(ends.get() for _ in clients) - began)


@contextmanager
def crew(one: StripedJob, postgres_url: str, valkey_url: str, workers: int, path: Path) -> Iterator[ProcessGroup]:
    """Start so many workers, and end them."""
    there = ProcessGroup(
        {
            "STRIPEDJOB_SPEC": one.model_dump_json(by_alias=True, exclude_none=True, exclude={"status"}),
            "STRIPEDJOB_POSTGRES_URL": postgres_url,
            "STRIPEDJOB_LOCK_URL": valkey_url,
            "STRIPEDJOB_PATH": str(path),
        }
    )
    try:
        if one.strategy.delegated:
            there.start("delegator")
        for _ in range(workers):
            there.start()
        yield there
    finally:
        there.kill()


def await_(what: str, is_so: Any, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until it is so, or fail."""
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(POLL_SECONDS)


def timed(pool: OwnerPool, one: StripedJob, job_id: int) -> float:
    """Raise the limit and give the seconds until nothing is left."""
    began = time.perf_counter()
    pool.apply(job_settings(one))
    await_("the pool is empty", lambda: pool.is_empty(job_id))
    return time.perf_counter() - began


def measure(units: int, resources: int, workers: int, path: Path, **spec: Any) -> Result:
    """Measure one size."""
    one = job("bench", **spec)
    with durable() as servers, OwnerPool.open(servers.postgres.url) as pool:
        pool.migrate()
        closed = replace(job_settings(one), schedule_limit=0)
        job_id = pool.apply(closed)
        with crew(one, *servers.urls, workers, path):
            await_("the workers are there", lambda: len(pool.workers(job_id)) == workers)
            for size in ((WARM_UNITS, WARM_RESOURCES), (units, resources)):
                pool.apply(closed)
                fill(pool, job_id, *size)
                seconds = timed(pool, one, job_id)
            rate = units / seconds
        raw_rate = raw(pool, servers.postgres.url, units, resources)
    return Result(units, resources, workers, round(rate), round(raw_rate), round(rate / raw_rate, 3))


def main(path: Path, _options: object) -> list[dict[str, Any]]:
    """Measure the sizes that are promised."""
    sizes = [(10_000, 1_000), (200_000, 20_000)]
    return [asdict(measure(*size, workers, path)) for size in sizes for workers in (2, 4)]
