"""What a worker shows of itself: log lines, Prometheus metrics, liveness and readiness. The loop calls it.

One observer a worker. Reading it (health.py) never waits for the loop, so that a loop that hangs is seen to hang.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from stripedjob.observe.log import LOCK_AWAY, LOCK_BACK, TOO_LATE, logger
from stripedjob.pool.errors import PoolUnreachableError
from stripedjob.pool.types import Batch, Failure, Lease, Recorded, Settlement, Then
from stripedjob.runtime import clock
from stripedjob.runtime.traces import Traces
from stripedjob.times import Histogram, cumulated

STALLED_SECONDS = 60.0  # a loop that has not turned for so long is dead


class _Times(Collector):
    """The histograms of times, made for Prometheus at a scrape alone, since units are counted often."""

    def __init__(self, job: str, wait: Histogram, run: Histogram) -> None:
        self._job, self._wait, self._run = job, wait, run

    def collect(self) -> Iterator[Metric]:
        """Yield the histograms. Called in the thread of a scrape."""
        for name, help_, histogram in (
            ("wait", "How long units wait for their handler, from when they could first be claimed.", self._wait),
            ("run", "How long the handler's call of a unit takes.", self._run),
        ):
            family = HistogramMetricFamily(f"stripedjob_unit_{name}_seconds", help_, labels=["job_type"])
            family.add_metric([self._job], cumulated(list(histogram.counts)), histogram.seconds)
            yield family


class Observer:
    """Counts and tells. `job` names the job in logs and metrics."""

    def __init__(self, job: str, clock: Callable[[], float] = time.monotonic, traces: Traces | None = None) -> None:
        """Start with nothing connected. `traces`: where spans go, of times by the leases' clock."""
        self.registry = CollectorRegistry()
        self.job = job
        self._clock, self._traces = clock, traces
        self._turned_at = clock()
        self._pool_problem: str | None = "not connected to Postgres yet"
        self._lock_problem: str | None = None
        self._units = Counter(
            "stripedjob_units", "Units by how their try ended.", ["job_type", "outcome"], registry=self.registry
        )
        self._done = self._units.labels(job, "done")
        self._failed = {word: self._units.labels(job, word) for word in ("ready", "delayed", "held", "dead")}
        self._counts = {
            name: Counter(f"stripedjob_{name}", help_, ["job_type"], registry=self.registry).labels(job)
            for name, help_ in (
                ("leases", "Leases taken."),
                ("lock_tries", "Locks asked for."),
                ("lock_refusals", "Locks refused or unavailable."),
                ("stale", "Leases whose settlement was refused."),
                ("batches", "Batches recorded."),
                ("losses", "Times that the worker was considered dead."),
            )
        }
        up = Gauge("stripedjob_up", "Whether an engine can be reached.", ["job_type", "engine"], registry=self.registry)
        self._pool_up, self._lock_up = up.labels(job, "pool"), up.labels(job, "lock")
        self._lock_up.set(1)
        self.wait, self.run = Histogram(), Histogram()
        self.registry.register(_Times(job, self.wait, self.run))

    def turned(self) -> None:
        """Note that the loop is alive."""
        self._turned_at = self._clock()

    def connected(self, worker_id: int) -> None:
        """Note that Postgres answers."""
        if self._pool_problem is not None:
            self._log(logger.info, "connected to Postgres", worker=worker_id)
        self._pool_problem = None
        self._pool_up.set(1)

    def disconnected(self, error: Exception) -> None:
        """Note that Postgres does not answer."""
        if self._pool_problem is None or not self._pool_problem.startswith(str(error)):
            is_away = isinstance(error, PoolUnreachableError)
            words = "Postgres cannot be reached; trying again" if is_away else "a call failed in Postgres; trying again"
            self._log(logger.warning, words, error=str(error))
        self._pool_problem = str(error)
        self._pool_up.set(0)

    def lock_reachable(self, error: Exception | None) -> None:
        """Note whether the lock backend answers."""
        if error is None:
            self._log(logger.info, LOCK_BACK)
        elif self._lock_problem is None:
            self._log(logger.warning, LOCK_AWAY, error=str(error))
        self._lock_problem = None if error is None else str(error)
        self._lock_up.set(error is None)

    def lost(self, worker_id: int) -> None:
        """Note that the worker was considered dead."""
        self._log(logger.warning, "considered dead: the leases passed to others; registering again", worker=worker_id)
        self._counts["losses"].inc()

    def claimed(self, leases: Sequence[Lease], asked: float) -> None:
        """Trace how long units have waited until a claim was asked for, and how long that took."""
        if self._traces and leases:
            now = clock.now()
            self._traces.add("wait", leases, lambda lease, place: (lease.since(place), asked), now)
            self._trace("lease", leases, asked)

    def locked(self, leases: Sequence[Lease], asked: float) -> None:
        """Trace how long locks took."""
        self._trace("lock", leases, asked)

    def settled(self, batch: Batch, recorded: Recorded, asked: float) -> None:
        """Count what was recorded, tell of the units that were not done, and trace how long that took."""
        lost, done = set(recorded.refused), batch.tally.recorded
        if self._traces:
            self._trace("settle", [one.lease for one in batch.ended if one.lease.resource not in lost], asked)
        for one in batch.ended:
            if one.lease.resource in lost:
                for failure in one.failed:
                    self._tell(TOO_LATE, one.lease, failure)
            else:
                done += len(one.done)
                self._ended(one, recorded)
        self._done.inc(done)
        self._counts["leases"].inc(batch.tally.claimed)
        self._counts["lock_tries"].inc(batch.tally.lock_tries)
        self._counts["lock_refusals"].inc(batch.tally.lock_refusals)
        self._counts["batches"].inc()
        if lost:
            self._counts["stale"].inc(len(lost))
            self._log(
                logger.warning,
                "leases had been lost; nothing of them was recorded",
                resources=list(recorded.refused)[:10],
            )

    def unstorable(self, batch: Batch, error: Exception) -> None:
        """Tell of outcomes that Postgres could not store; they are sent again in plainer words."""
        resources = [one.lease.resource for one in batch.ended]
        reasons = [failure.reason for one in batch.ended for failure in one.failed]
        words = "outcomes could not be stored"
        self._log(logger.error, words, resources=resources[:10], reasons=reasons[:10], error=str(error))

    def is_live(self) -> bool:
        """Whether the loop still turns."""
        return self._clock() - self._turned_at < STALLED_SECONDS

    def problem(self) -> str | None:
        """Why the worker is not ready, or None."""
        return self._pool_problem or self._lock_problem

    def _trace(self, name: str, leases: Sequence[Lease], asked: float) -> None:
        if self._traces:
            now = clock.now()
            self._traces.add(name, leases, lambda _lease, _place: (asked, now), now)

    def _log(self, write: Callable[..., None], event: str, **facts: Any) -> None:
        write(event, extra={"job": self.job, **facts})

    def _ended(self, one: Settlement, recorded: Recorded) -> None:
        """Count and tell of the units that were not done."""
        for failure in map(recorded.of, one.failed):
            self._failed[failure.to.value].inc()
            spared = {"spared": True} if failure.unit_id in recorded.spared else {}
            self._tell(f"unit {failure.to.value}", one.lease, failure, **spared)
        if one.then is Then.SUSPECT:
            words = "the handler's process died with this and others; it is run alone next"
            self._log(logger.warning, words, resource=one.lease.resource)

    def _tell(self, event: str, lease: Lease, failure: Failure, **more: Any) -> None:
        trace = {"traceback": failure.trace} if failure.trace else {}
        self._log(
            logger.warning,
            event,
            resource=lease.resource,
            unit=failure.unit_id,
            fence=lease.fence,
            attempts=failure.attempts,
            crashes=failure.crashes,
            reason=failure.reason,
            after_seconds=round(failure.after_seconds, 3),
            **more,
            **trace,
        )
