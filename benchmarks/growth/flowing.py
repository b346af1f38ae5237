"""What comes while others work: under a snapshot that is held open, all due at once, or one by one."""

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
from local import await_, fold
from servers import children

from growth.feed import Enqueuers, Feeder, backlog
from growth.scene import PATIENCE_SECONDS, Row, Scene, Site, beside, load, micros, rate, scene

WINDOW_SECONDS = 10.0
BACKLOG_UNITS = 20_000
DELAYED = """
insert into striped.unit (job_id, resource, state, due_at)
select %(job)s, 'due-' || n %% %(resources)s, 'delayed', %(at)s from generate_series(1, %(units)s) n"""
WAKES = "select count(*) from striped.wake where job_id = %(job)s"
POLL_SECONDS = 0.25


def snapshot(site: Site) -> Iterator[Row]:
    """Measure each 10 s of a minute under load while a REPEATABLE READ transaction is open elsewhere.

    Beside a pool without one, in turn; with a resource for each unit, and with 10,000 that come again and again.
    """
    for resources in (0, 10_000):
        kind = f"{resources:,} resources" if resources else "one unit a resource"
        with scene(site) as free, scene(site) as held, psycopg.connect(held.servers.postgres.url) as other:
            other.execute("set transaction isolation level repeatable read")
            other.execute("select count(*) from striped.unit")
            small, grown = [], []
            for turn in range(1, 7):
                site.say(f"{kind}, {turn} of 6")
                for there, found in ((free, small), (held, grown)):
                    found.append(under_load(there, resources, site.seconds(WINDOW_SECONDS)))
            rates = [round(rate(one)) for one in grown]
            pairs = zip(grown, small, strict=True)
            parts = [round(rate(one) / rate(other), 2) if other["units"] else None for one, other in pairs]
            yield beside(f"a snapshot held open, {kind}", small, grown) | {"each": rates, "ratios": parts}


def under_load(there: Scene, resources: int, seconds: float) -> Row:
    """Keep the crew busy for so long, and give what it did meanwhile; what is left over is worked then."""
    with Feeder(there, backlog(BACKLOG_UNITS), resources):
        there.open()
        time.sleep(1)
        before = there.reading()
        time.sleep(seconds)
        spent = there.spent(before)
    await_("all is done", lambda: there.pool.is_empty(there.job_id), PATIENCE_SECONDS)
    there.close()
    return spent


def due(site: Site) -> Iterator[Row]:
    """Measure a million delayed units of 100,000 resources, due in the same second, against as many that are ready.

    `claimable_seconds`: until no unit is delayed any more; `private_mb`: the most that one of Postgres' processes took
    of memory of its own.
    """
    units, resources = site.size(1_000_000), site.size(100_000)
    with scene(site) as there:
        site.say("those that are ready")
        load(there, units, resources)
        ready = there.work(units)
        site.say("loads")
        at = there.value("select now() + interval '1 day'")
        there.pool.conn.execute(DELAYED, {"job": there.job_id, "resources": resources, "units": units, "at": at})
        fold(there.pool, there.job_id)
        there.pool.conn.execute("update striped.unit set due_at = now() where state = 'delayed'")
        there.pool.conn.execute("vacuum striped.unit")  # what this benchmark moved, no job would have
        before, began = there.reading(), time.perf_counter()
        there.open()
        claimable, private = None, 0.0
        while there.done() < before["units"] + units and time.perf_counter() < began + PATIENCE_SECONDS:
            time.sleep(POLL_SECONDS)
            private = max(private, private_mb(there))
            if claimable is None and there.pool.status(there.job_id).delayed == 0:
                claimable = time.perf_counter() - began
                site.say("all are claimable")
        spent = there.spent(before)
        seconds = {"claimable_seconds": claimable and round(claimable, 1), "done_seconds": round(spent["seconds"], 1)}
        yield beside(f"{units:,} units due in one second", [ready], [spent]) | seconds | {"private_mb": round(private)}


def private_mb(there: Scene) -> float:
    """Return the most memory that a process of Postgres has for itself, without what all share."""
    return max(map(_private_mb, children(there.servers.postgres.pid)), default=0.0)


def _private_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon:")), 0.0)


def singles(site: Site) -> Iterator[Row]:
    """Measure units that come one by one from eight sessions for 30 s, 10,000 a second or as many as the machine gives.

    `enqueued`: a second; `wakes`: how many were to be folded, as they were looked at, and `behind`: units that were not
    done when the last was put in, and in how many seconds they were.
    """
    seconds = site.seconds(30)
    with scene(site) as there:
        there.open()
        before, wakes = there.reading(), []
        with Enqueuers(there, seconds, rate=10_000) as enqueuers:
            while enqueuers.running():
                time.sleep(POLL_SECONDS)
                wakes.append(int(there.value(WAKES)))
            spent = there.spent(before)
            enqueued = enqueuers.rate()
        behind = round(enqueued * seconds) - spent["units"]
        began = time.perf_counter()
        await_("all is done", lambda: there.pool.is_empty(there.job_id), PATIENCE_SECONDS)
        yield {
            "what": "single-row enqueues",
            "enqueued": round(enqueued),
            "units_per_second": round(rate(spent)),
            **micros(spent),
            "wakes_median": round(statistics.median(wakes)),
            "wakes_max": max(wakes),
            "wakes_last": wakes[-1],
            "behind": max(0, behind),
            "behind_seconds": round(time.perf_counter() - began, 2),
        }
