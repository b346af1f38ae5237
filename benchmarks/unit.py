"""What one unit costs: CPU by process, buffers and WAL in Postgres, of whole workers with a handler that does nothing.

Run by `scripts/bench unit [--only UNITS/RESOURCES,…] [--history]`. Two workers, a durable Postgres, one row a shape.
The pool is filled as users fill it, and the clock starts with the commit: workers that are there, have worked a little
and may not work yet are let to work, and stop it when nothing is left. What folds the wakes, and what the lack of
statistics costs, is in. A small shape is worked several times, since the kernel counts CPU in ticks of 10 ms. CPU is in
microseconds a unit: of all processes of Postgres but the session of this benchmark, of the workers' main processes, of
their executors, of Valkey. Buffers are shared buffers found in memory, by the workers' sessions; WAL is the whole
server's. `pool_calls` and `lock_calls` are the round trips of one more working off: routines as Postgres counts them,
scripts as Valkey does; the questions of idle workers around it are in.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import redis
from local import WARM_RESOURCES, WARM_UNITS, await_, crew, fill, job, timed
from servers import Servers, below_seconds, durable, own_seconds, tree_seconds

from stripedjob.local.processes import ProcessGroup
from stripedjob.pool.client.owner import OwnerPool
from stripedjob.settings import job_settings
from stripedjob.spec.model import StripedJob

SHAPES = ((100_000, 100_000), (200_000, 20_000), (10_000, 1_000), (200_000, 20))
UNITS_MIN = 100_000
WORKERS = 2
REST_SECONDS = 2.0  # an idle session hands in its statistics with its next poll, a second after the last time
BUFFERS = """
select coalesce(sum(io.hits), 0)::bigint from pg_stat_activity a, pg_stat_get_backend_io(a.pid) io
where a.application_name = 'stripedjob' and a.pid <> pg_backend_pid()"""
CALLS = """
select coalesce(json_object_agg(funcname, calls), '{}') from pg_stat_user_functions
where schemaname = 'striped'
    and funcname in ('claim', 'settle', 'upkeep', 'keep_up', 'poll', 'renew', 'clean', 'note_times')"""
WAL = "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the shapes to measure."""
    shapes = [f"{units}/{resources}" for units, resources in SHAPES]
    parser.add_argument("--only", default=",".join(shapes), metavar="UNITS/RESOURCES,…", help="the shapes to measure")
    parser.add_argument("--history", action="store_true", help="of a job that keeps a history")


def measure(units: int, resources: int, path: Path, *, history: bool) -> dict[str, Any]:
    """Measure one shape."""
    one = job("unit", retention={"historySeconds": 86_400 if history else 0})
    with durable() as servers, OwnerPool.open(servers.postgres.url) as pool:
        pool.migrate()
        job_id = pool.apply(replace(job_settings(one), schedule_limit=0))
        with crew(one, *servers.urls, WORKERS, path) as there:
            await_("the workers are there", lambda: len(pool.workers(job_id)) == WORKERS)
            scene = Scene(servers, pool, one, job_id, there)
            scene.work_off(WARM_UNITS, WARM_RESOURCES)
            rounds = [scene.work_off(units, resources) for _ in range(max(1, UNITS_MIN // units))]
            calls = scene.round_trips(units, resources)
    spent = {name: sum(round_[name] for round_ in rounds) for name in rounds[0]}
    return report(units, resources, units * len(rounds), spent) | calls


@dataclass(frozen=True, slots=True)
class Scene:
    """Servers, a job and its workers."""

    servers: Servers
    pool: OwnerPool
    one: StripedJob
    job_id: int
    there: ProcessGroup

    def work_off(self, units: int, resources: int) -> dict[str, float]:
        """Fill the pool, let the workers empty it, and give what that took: seconds, buffers, bytes."""
        self.pool.apply(replace(job_settings(self.one), schedule_limit=0))
        await_("the workers rest", lambda: self.pool.status(self.job_id).working == 0)
        buffers = self._value(BUFFERS)
        fill(self.pool, self.job_id, units, resources)
        before = self._reading()
        timed(self.pool, self.one, self.job_id)
        after = self._reading()
        time.sleep(REST_SECONDS)
        spent = {name: after[name] - before[name] for name in before}
        return spent | {"buffers": self._value(BUFFERS) - buffers}

    def round_trips(self, units: int, resources: int) -> dict[str, Any]:
        """Work once more and count calls: to count them costs time, so nothing else is measured meanwhile."""
        for statement in ("alter system set track_functions = 'pl'", "select pg_reload_conf()"):
            self.pool.conn.execute(statement.encode())
        self.work_off(WARM_UNITS, WARM_RESOURCES)  # and sessions learn of the setting
        before = self._calls()
        self.work_off(units, resources)
        made = {name: number - before.get(name, 0) for name, number in self._calls().items()}
        locks = made.pop("locks")
        return {
            "pool_calls": sum(made.values()),
            "lock_calls": locks,
            "units_a_call": round(units / (sum(made.values()) + locks)),
            "calls": " ".join(f"{name} {number}" for name, number in sorted(made.items()) if number),
        }

    def _calls(self) -> dict[str, int]:
        """Return how often each routine was called, when all have handed in what they counted, and the lock server."""
        self.pool.apply(job_settings(self.one))  # all idle workers ask
        time.sleep(REST_SECONDS)
        self.pool.apply(job_settings(self.one))
        time.sleep(REST_SECONDS)
        row = self.pool.conn.execute(CALLS).fetchone()
        assert row is not None
        with redis.Redis.from_url(self.servers.valkey.url) as client:
            commands = client.info("commandstats")
        return row[0] | {"locks": sum(one["calls"] for name, one in commands.items() if "eval" in name)}

    def _reading(self) -> dict[str, float]:
        mains = [member.process.pid for member in self.there.members]
        return {
            "seconds": time.perf_counter(),
            "postgres": tree_seconds(self.servers.postgres.pid, without=self.pool.conn.info.backend_pid),
            "main": sum(map(own_seconds, mains)),
            "executor": sum(map(below_seconds, mains)),
            "valkey": tree_seconds(self.servers.valkey.pid),
            "wal": self._value(WAL),
        }

    def _value(self, query: str) -> int:
        row = self.pool.conn.execute(query.encode()).fetchone()
        assert row is not None
        return int(row[0])


def report(units: int, resources: int, worked: int, spent: dict[str, float]) -> dict[str, Any]:
    """Return a shape's row of what `worked` units took."""
    cpu = {name: spent[name] * 1e6 / worked for name in ("postgres", "main", "executor", "valkey")}
    return {
        "units": units,
        "resources": resources,
        "workers": WORKERS,
        "units_per_second": round(worked / spent["seconds"]),
        **{f"{name}_us": round(micros, 1) for name, micros in cpu.items()},
        "all_us": round(sum(cpu.values()), 1),
        "buffers": round(spent["buffers"] / worked, 1),
        "wal_bytes": round(spent["wal"] / worked),
    }


def main(path: Path, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure the shapes that are asked for."""
    for shape in options.only.split(","):
        units, resources = map(int, shape.split("/"))
        yield measure(units, resources, path, history=options.history)
