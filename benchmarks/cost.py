"""What stands still costs: a unit and a resource that wait, an idle worker, and a job whose workers are idle.

Run by `scripts/bench cost`. Embedded engines; bytes are as Postgres reports them after the load: with indexes, of which
`index_bytes` are a part. Memory is the proportional share (PSS) of a worker's two processes, so that pages shared with
others count in part.
"""

import time
from pathlib import Path
from typing import Any

from local import await_, crew, fill, fold, job

from stripedjob.local.engines import embedded
from stripedjob.pool.client.owner import OwnerPool
from stripedjob.settings import job_settings

UNITS, RESOURCES = 200_000, 20_000
WORKERS = (1, 8)
QUIET_SECONDS = 12.0  # Postgres counts a session's transactions with a delay of up to 10 s
WINDOW_SECONDS = 20.0


def one_value(pool: OwnerPool, query: str) -> int:
    """Return the number that a query returns."""
    row = pool.conn.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])


def bytes_each(pool: OwnerPool) -> dict[str, Any]:
    """Measure what units and resources take that wait."""
    job_id = pool.apply(job_settings(job("full")))
    fill(pool, job_id, UNITS, RESOURCES)
    fold(pool, job_id)
    pool.conn.execute("vacuum striped.wake")
    row: dict[str, Any] = {"units": UNITS, "resources": RESOURCES}
    for name, table, count in (("unit", "unit", UNITS), ("resource", "stripe", RESOURCES)):
        for what, size in (("bytes", "pg_total_relation_size"), ("index_bytes", "pg_indexes_size")):
            row[f"{what}_a_{name}"] = round(one_value(pool, f"select {size}('striped.{table}')") / count)
    pool.clear(job_id)
    return row


def pss_mb(pid: int) -> float:
    """Return the proportional share of memory of a process and its children, in MB."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    own = next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
    return own + sum(pss_mb(int(child)) for child in children)


def idle(pool: OwnerPool, urls: tuple[str, str], workers: int) -> dict[str, Any]:
    """Measure workers that have nothing to do."""
    one = job(f"idle-{workers}")
    job_id = pool.apply(job_settings(one))
    count = "select xact_commit from pg_stat_database where datname = current_database()"
    sessions = "select count(*) from pg_stat_activity where application_name = 'stripedjob' and pid <> pg_backend_pid()"
    with crew(one, *urls, workers, Path(__file__).parent) as there:
        await_("the workers are there", lambda: len(pool.workers(job_id)) == workers)
        time.sleep(QUIET_SECONDS)
        before = one_value(pool, count)
        time.sleep(WINDOW_SECONDS)
        rate = (one_value(pool, count) - before) / WINDOW_SECONDS
        return {
            "idle_workers": workers,
            "transactions_a_second": round(rate, 1),
            "connections_a_worker": one_value(pool, sessions) / workers,
            "mb_a_worker": round(sum(pss_mb(member.process.pid) for member in there.members) / workers, 1),
        }


def main(_path: Path, _options: object) -> list[dict[str, Any]]:
    """Measure all of it."""
    with embedded() as engines, OwnerPool.open(engines.postgres_url) as pool:
        pool.migrate()
        urls = (engines.postgres_url, engines.valkey_url)
        return [bytes_each(pool), *(idle(pool, urls, workers) for workers in WORKERS)]
