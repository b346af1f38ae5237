"""The most memory that a worker's processes take, with large payloads and with very many units of one resource.

Run by `scripts/bench memory`. One worker with the defaults; the numbers are peaks of the resident size that the kernel
keeps (VmHWM), of the worker's main process and of its executor.
"""

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from local import await_, crew, job

from stripedjob.local.engines import embedded
from stripedjob.pool.client.owner import OwnerPool
from stripedjob.settings import job_settings

KIND = {"one unit": (1, 1, 20 << 20), "many large units": (10_000, 20, 1 << 20), "one resource": (1_000_000, 1, 2)}
FILL = """
insert into striped.unit (job_id, resource, payload)
    select %s, 'r' || n %% %s, to_json(repeat(md5(n::text), %s / 32)) from generate_series(%s::int, %s::int) n"""
CHUNK_BYTES = 100 << 20
PATIENCE_SECONDS = 1200.0  # ten gigabytes pass through


@dataclass(frozen=True, slots=True)
class Result:
    """One kind of work: its size, and the peaks of both processes in megabytes."""

    work: str
    units: int
    resources: int
    payload_bytes: int
    main_mb: int
    executor_mb: int


def peak_mb(process: psutil.Process) -> int:
    """Return the peak of a process's resident size so far."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1]) // 1024


def measure(pool: OwnerPool, urls: tuple[str, str], name: str, path: Path) -> Result:
    """Measure one kind of work, with one worker."""
    units, resources, size = KIND[name]
    one = job(f"memory-{resources}-{units}")
    job_id = pool.apply(job_settings(one))
    chunk = CHUNK_BYTES // max(size, 1000)
    for first in range(1, units + 1, chunk):
        pool.conn.execute(FILL, [job_id, resources, size, first, min(units, first + chunk - 1)])
    with crew(one, *urls, 1, path) as there:
        await_("the pool is empty", lambda: pool.is_empty(job_id), PATIENCE_SECONDS)
        main = psutil.Process(there.members[0].process.pid)
        (executor,) = main.children()
        return Result(name, units, resources, size, peak_mb(main), peak_mb(executor))


def main(path: Path, _options: object) -> list[dict[str, Any]]:
    """Measure all kinds."""
    with embedded() as engines, OwnerPool.open(engines.postgres_url) as pool:
        pool.migrate()
        return [asdict(measure(pool, (engines.postgres_url, engines.valkey_url), name, path)) for name in KIND]
