"""What is said of a run by its records, and of a series by its values. Pure.

Called by works.py.
"""

import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple


class Record(NamedTuple):
    """One unit at work: its number and its resource, and when its handler began and ended, in ns of one clock."""

    unit: int
    resource: str
    began: int
    ended: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was wrong: units of one resource at work at once, units worked twice or never, units out of order."""

    overlaps: int
    doubles: int
    missing: int
    inversions: int


def parse(text: str) -> list[Record]:
    """Read records, one a line: unit, resource, began, ended."""
    lines = (line.split() for line in text.splitlines())
    return [Record(int(unit), resource, int(began), int(ended)) for unit, resource, began, ended in lines]


def judge(records: Iterable[Record], units: Collection[int]) -> Verdict:
    """Judge a run of these units, whose numbers rise in the order in which they were enqueued."""
    in_order = sorted(records, key=lambda one: (one.resource, one.began, one.unit))
    times = Counter(one.unit for one in in_order)
    overlaps = inversions = 0
    for _, of_resource in groupby(in_order, key=lambda one: one.resource):
        latest_end = highest = -1
        for one in of_resource:
            overlaps += one.began < latest_end
            inversions += one.unit < highest
            latest_end, highest = max(latest_end, one.ended), max(highest, one.unit)
    doubles = sum(count - 1 for count in times.values())
    return Verdict(overlaps, doubles, len(set(units) - times.keys()), inversions)


def efficiency(records: Iterable[Record], seconds: float, slots: int) -> float:
    """Say how near a run of so many seconds came to `slots` handlers that are never without work."""
    return sum(one.ended - one.began for one in records) / 1e9 / slots / seconds


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Return the 50th, 90th and 99th percentile and the largest."""
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return {"p50": cuts[49], "p90": cuts[89], "p99": cuts[98], "largest": max(values)}
