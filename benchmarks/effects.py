"""Units a second of handlers whose effect commits with the record of their unit: the events of examples/listings.

Run by `scripts/bench effects`, with fsync on: what a commit costs is what is measured. The clock runs as in local.py.
"""

import json
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
from local import await_, crew, job, timed

from stripedjob.local.engines import embedded
from stripedjob.pool.client.owner import OwnerPool
from stripedjob.settings import job_settings

LISTINGS = Path(__file__).parents[1] / "examples" / "listings"
SIZES = ((5_000, 300), (20_000, 20_000))  # events, listings: as in the example, and about one event each
WORKERS = 4


@dataclass(frozen=True, slots=True)
class Result:
    """One size: units a second, with how many workers."""

    units: int
    resources: int
    workers: int
    fsync: str
    units_per_second: float


def measure(pool: OwnerPool, urls: tuple[str, str], units: int, resources: int) -> Result:
    """Measure one size, on a table of its own."""
    from events import events  # noqa: PLC0415 - its folder is put on the path by main
    from listings import TABLE  # noqa: PLC0415 - as above

    one = job(f"effects-{resources}", strategy="FIFO", handler={"python": "listings:apply", "transaction": True})
    closed = replace(job_settings(one), schedule_limit=0)
    job_id = pool.apply(closed)
    with psycopg.connect(urls[0], autocommit=True) as conn:
        conn.execute("drop table if exists listing")
        conn.execute(TABLE)
    rows = [(job_id, event["resource"], json.dumps(event["payload"])) for event in events(units, resources, 7)]
    with pool.conn.cursor().copy("copy striped.unit (job_id, resource, payload) from stdin") as copy:
        for row in rows:
            copy.write_row(row)
    while pool.conn.execute("select 1 from striped.wake where job_id = %s limit 1", [job_id]).fetchone():
        pool.upkeep(job_id)
    with crew(one, *urls, WORKERS, LISTINGS):
        await_("the workers are there", lambda: len(pool.workers(job_id)) == WORKERS)
        seconds = timed(pool, one, job_id)
    (fsync,) = pool.conn.execute("show fsync").fetchone() or ("",)
    return Result(units, resources, WORKERS, str(fsync), round(units / seconds))


def main(_path: Path, _options: object) -> list[dict[str, Any]]:
    """Measure the example's size, and one in which there is little to share."""
    sys.path.insert(0, str(LISTINGS))
    with (
        tempfile.TemporaryDirectory() as folder,  # data that has a folder of its own is durable: fsync is on
        embedded(Path(folder)) as engines,
        OwnerPool.open(engines.postgres_url) as pool,
    ):
        pool.migrate()
        urls = (engines.postgres_url, engines.valkey_url)
        return [asdict(measure(pool, urls, *size)) for size in SIZES]
