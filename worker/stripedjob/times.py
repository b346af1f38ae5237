"""Pure: how long units wait and run, counted in buckets: the one list of their bounds, and what is read out of counts.

Workers count (runtime/worker/timing.py) and show it in /metrics; the pool keeps the counts of all workers of a job;
status, the page and the operator read percentiles and histograms out of them. ADR 24 says where what is kept.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

# Pools have counts by these bounds, and workers of two releases count in one: a later list needs columns of its own.
BOUNDS_SECONDS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0),
)
BUCKETS = len(BOUNDS_SECONDS) + 1  # the last is of what is longer
NAMES = (*map(str, BOUNDS_SECONDS), "+Inf")
PERCENTILES = (50, 95, 99)


def bucket(seconds: float) -> int:
    """Return the place of a time among the counts; a bound belongs to the bucket that it ends."""
    return bisect_left(BOUNDS_SECONDS, seconds)


@dataclass(slots=True)
class Histogram:
    """Counts by bucket, and the sum of all that was counted, in seconds."""

    counts: list[int] = field(default_factory=lambda: [0] * BUCKETS)
    seconds: float = 0.0

    def add(self, seconds: float, units: int = 1) -> None:
        """Count so many units of this time."""
        self.counts[bucket(seconds)] += units
        self.seconds += seconds * units


def quantile(counts: Sequence[int], share: float) -> float | None:
    """Estimate, in seconds, what so great a share of all is at most, as Prometheus does: evenly within a bucket.

    None where nothing was counted; what is above the last bound counts as that.
    """
    rank = share * sum(counts)
    if not rank:
        return None
    below = 0
    for place, count in enumerate(counts[: len(BOUNDS_SECONDS)]):
        if count and below + count >= rank:
            lower = BOUNDS_SECONDS[place - 1] if place else 0.0
            return lower + (BOUNDS_SECONDS[place] - lower) * (rank - below) / count
        below += count
    return BOUNDS_SECONDS[-1]


def percentiles(counts: Sequence[int]) -> dict[str, float | None]:
    """Return the percentiles that people ask for, in seconds, by name: p50 and so on; None: nothing was counted."""
    return {f"p{percent}": quantile(counts, percent / 100) for percent in PERCENTILES}


def summary(recent: dict[str, Any]) -> dict[str, Any]:
    """Say what recent_times() in SQL has: seconds that it covers, tries that ended, and percentiles in seconds."""
    tries = sum(recent["runs"])
    return {
        "seconds": recent["seconds"],
        "tries": tries,
        "per_second": tries / recent["seconds"],
        "wait": percentiles(recent["waits"]),
        "run": percentiles(recent["runs"]),
    }


def said(seconds: float | None) -> str:
    """Return an estimate for people: 12 ms, 1.2 s, 10 min."""
    if seconds is None:
        return "-"
    if seconds < BOUNDS_SECONDS[0]:
        return "under 1 ms"
    if seconds >= BOUNDS_SECONDS[-1]:
        return "1 h or more"
    for below, shown in ((0.9995, f"{seconds * 1000:.0f} ms"), (9.95, f"{seconds:.1f} s"), (120, f"{seconds:.0f} s")):
        if seconds < below:
            return shown
    return f"{seconds / 60:.0f} min"


def cumulated(counts: Sequence[int]) -> list[tuple[str, float]]:
    """Return the buckets of a Prometheus histogram: how many are at most so long; of no counts, zeros."""
    totals = list(accumulate([*counts[:BUCKETS], *[0] * (BUCKETS - len(counts))]))
    return [(bound, float(total)) for bound, total in zip(NAMES, totals, strict=True)]
