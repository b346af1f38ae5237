"""How long units wait and run, from what the executor says of a lease: bookkeeping, no I/O. The loop owns one.

A unit waits from when it could first be claimed (enqueued, or due where that was later) to the start of its handler,
and runs while its call does. The executor measures each call that takes longer than a bucket; the units of all others
are counted together, by what they have in common. So a unit costs less than its measure would.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from stripedjob.pool.types import Lease, News
from stripedjob.runtime.outcome import QUICK_SECONDS, Outcome
from stripedjob.times import BUCKETS, Histogram, bucket


@dataclass(slots=True)
class Timing:
    """Counts into the two histograms, and knows what of them the pool has: `_waits`, `_runs` and their sums."""

    wait: Histogram
    run: Histogram
    _waits: list[int] = field(default_factory=lambda: [0] * BUCKETS)
    _runs: list[int] = field(default_factory=lambda: [0] * BUCKETS)
    _wait_seconds: float = 0.0
    _run_seconds: float = 0.0

    def took(self, ended: Iterable[tuple[Lease, Outcome]]) -> None:
        """Count the calls of outcomes: a lease's only unit, where it was quick, by the shortest way."""
        waits, wait_seconds, run_seconds, units = self.wait.counts, 0.0, 0.0, 0
        for lease, outcome in ended:
            if len(lease.ids) == 1 == outcome.tried - outcome.first and not outcome.calls:
                seconds = outcome.seconds
                waited = outcome.at - seconds - lease.oldest
                waits[bucket(waited)] += 1
                units += 1
                wait_seconds += waited
                run_seconds += seconds
            else:
                self._took(lease, outcome)
        self.run.counts[0] += units
        self.wait.seconds += max(0.0, wait_seconds)
        self.run.seconds += min(run_seconds, units * QUICK_SECONDS)

    def _took(self, lease: Lease, outcome: Outcome) -> None:
        """Count the calls of one."""
        place, start = outcome.first, outcome.at - outcome.seconds
        for call in outcome.calls:
            self._quick(lease, place, min(call.place, outcome.tried), start, call.began)
            self.run.add(call.seconds, call.units)
            self._waited(lease, call.place, call.place + call.units, call.began, call.began)
            place, start = call.place + call.units, call.began + call.seconds
        self._quick(lease, place, outcome.tried, start, outcome.at)

    def news(self) -> News | None:
        """Return what came since the pool had it last; None: nothing."""
        runs = [now - before for now, before in zip(self.run.counts, self._runs, strict=True)]
        if not any(runs):
            return None
        waits = [now - before for now, before in zip(self.wait.counts, self._waits, strict=True)]
        return News(waits, self.wait.seconds - self._wait_seconds, runs, self.run.seconds - self._run_seconds)

    def recorded(self, news: News) -> None:
        """Note that the pool has these."""
        self._waits = [before + more for before, more in zip(self._waits, news.waits, strict=True)]
        self._runs = [before + more for before, more in zip(self._runs, news.runs, strict=True)]
        self._wait_seconds += news.wait_seconds
        self._run_seconds += news.run_seconds

    def _quick(self, lease: Lease, place: int, end: int, start: float, until: float) -> None:
        """Count units whose calls were quick, one after the other in this time."""
        units = end - place
        if units > 0:
            self.run.counts[0] += units
            self.run.seconds += min(max(0.0, until - start), units * QUICK_SECONDS)
            self._waited(lease, place, end, start, until if units > 1 else start)

    def _waited(self, lease: Lease, place: int, end: int, start: float, until: float) -> None:
        """Count how long units waited whose calls began evenly in this time."""
        units, first = end - place, max(0.0, start - lease.since(place))
        last = max(0.0, until - lease.since(end - 1)) if units > 1 else first
        self.wait.seconds += units * (first + last) / 2
        counts, one, other = self.wait.counts, bucket(first), bucket(last)
        if one == other:
            counts[one] += units
        else:
            for i in range(units):
                counts[bucket(first + (last - first) * i / (units - 1))] += 1
