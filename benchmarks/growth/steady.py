"""A steady load for minutes, at 70 % of what the machine does, and whether anything drifts."""

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from growth.feed import Feeder
from growth.flowing import under_load
from growth.scene import Row, Scene, Site, micros, rate, scene

PART = 0.7
RESOURCES = 10_000
CAPACITY_SECONDS = 15.0
MINUTE_SECONDS = 60.0
TABLES = """
select json_object_agg(relname, json_build_object('mb', round(pg_relation_size(relid) / 1e6, 2),
    'index_mb', round(pg_indexes_size(relid) / 1e6, 2), 'dead', n_dead_tup))
from pg_stat_user_tables where schemaname = 'striped' and relname in ('unit', 'stripe', 'wake', 'worker')"""


def steady(site: Site) -> Iterator[Row]:
    """Yield a row for each minute, and one that compares the last third with the first.

    `age_p99_ms` is the 99th percentile, and `age_p50_ms` the median, of the time from the statement that put a unit in
    to its handler, of one unit in fifty.
    """
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "ages"
        log.touch()
        os.environ["STRIPEDJOB_BENCH_LOG"] = str(log)
        with scene(site, handler={"python": "noop:age"}) as there:
            site.say("what the machine does at most")
            capacity = rate(under_load(there, RESOURCES, CAPACITY_SECONDS))
            yield {"what": "capacity", "units_per_second": round(capacity)}
            yield from minutes(site, there, capacity * PART, log)


def minutes(site: Site, there: Scene, load: float, log: Path) -> Iterator[Row]:
    """Feed so many units a second, and measure each minute."""
    began = time.monotonic()
    rows = []
    there.open()
    with Feeder(there, lambda _done, fed: round((time.monotonic() - began) * load) - fed, RESOURCES):
        for minute in range(1, max(1, round(site.minutes)) + 1):
            site.say(f"minute {minute} of {site.minutes:g}")
            log.write_bytes(b"")
            before = there.reading()
            time.sleep(max(0.0, began + minute * MINUTE_SECONDS - time.monotonic()))
            row = of_minute(there, minute, there.spent(before), log)
            rows.append(row)
            yield row
    yield drift(rows)


def of_minute(there: Scene, minute: int, spent: Row, log: Path) -> Row:
    """Return one minute's row."""
    ages = sorted(map(float, log.read_text().split()))
    tables = there.value(TABLES)
    return {
        "what": f"minute {minute}",
        "units_per_second": round(rate(spent)),
        **micros(spent),
        "age_p50_ms": round(ages[len(ages) // 2] * 1000, 1),
        "age_p99_ms": round(ages[len(ages) * 99 // 100] * 1000, 1),
        "wal_bytes": round(spent["wal"] / max(1, spent["units"])),
        **{f"{table}_{name}": value for table, sizes in sorted(tables.items()) for name, value in sizes.items()},
    }


def drift(rows: list[Row]) -> Row:
    """Compare the last third of the minutes with the first."""
    third = max(1, len(rows) // 3)
    names = ("units_per_second", "all_us", "age_p99_ms", "unit_mb", "unit_index_mb", "stripe_mb", "stripe_index_mb")
    first, last = (
        {name: statistics.mean(row[name] for row in part) for name in names} for part in (rows[:third], rows[-third:])
    )
    return {"what": "last third of the first"} | {name: round(last[name] / max(first[name], 0.01), 2) for name in names}
