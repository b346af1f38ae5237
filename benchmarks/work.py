"""How near to the ideal time a crew comes when units take a while: units x seconds / workers.

Run by `scripts/bench work`. The clock runs as in local.py. The ideal counts what the handler really took, as it
measures itself: a `time.sleep(0.001)` takes longer than a millisecond.
"""

import os
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from local import await_, crew, fill, job, timed

from stripedjob.local.engines import embedded
from stripedjob.pool.client.owner import OwnerPool
from stripedjob.settings import job_settings

SIZES = ((2000, 200, 0.001), (20, 20, 1.0))  # units, resources, seconds a unit
WORKERS = 4
RUNS = 5


@dataclass(frozen=True, slots=True)
class Result:
    """One run: the seconds it took, those it should have taken, and their ratio."""

    units: int
    resources: int
    workers: int
    unit_seconds: float
    seconds: float
    ideal_seconds: float
    efficiency: float


def measure(pool: OwnerPool, urls: tuple[str, str], units: int, resources: int, unit_seconds: float) -> list[Result]:
    """Measure one size, with one crew."""
    log = Path(os.environ["STRIPEDJOB_BENCH_LOG"])
    one = job(f"work-{resources}", handler={"python": "noop:sleep"})
    closed = replace(job_settings(one), schedule_limit=0)
    job_id = pool.apply(closed)
    results = []
    with crew(one, *urls, WORKERS, Path(__file__).parent):
        await_("the workers are there", lambda: len(pool.workers(job_id)) == WORKERS)
        for _ in range(RUNS if unit_seconds < 1 else 1):
            pool.apply(closed)
            await_("the workers rest", lambda: pool.status(job_id).working == 0)
            fill(pool, job_id, units, resources, unit_seconds)
            log.write_bytes(b"")
            seconds = timed(pool, one, job_id)
            ideal = sum(map(int, log.read_bytes().split())) / 1e9 / WORKERS
            results.append(
                Result(
                    units,
                    resources,
                    WORKERS,
                    unit_seconds,
                    round(seconds, 3),
                    round(ideal, 3),
                    round(ideal / seconds, 3),
                )
            )
    return results


def main(_path: Path, _options: object) -> list[dict[str, Any]]:
    """Measure the sizes that are promised."""
    with (
        tempfile.TemporaryDirectory() as folder,
        embedded() as engines,
        OwnerPool.open(engines.postgres_url) as pool,
    ):
        os.environ["STRIPEDJOB_BENCH_LOG"] = f"{folder}/log"
        pool.migrate()
        urls = (engines.postgres_url, engines.valkey_url)
        return [asdict(result) for size in SIZES for result in measure(pool, urls, *size)]
