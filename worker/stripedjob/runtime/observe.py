"""What a worker shows of itself: log lines, counts, liveness and readiness. The loop calls it.

One observer a worker. Reading it (health.py) never waits for the loop, so that a loop that hangs is seen to hang.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from stripedjob.observe.log import LOCK_AWAY, LOCK_BACK, TOO_LATE, logger
from stripedjob.pool.errors import PoolUnreachableError
from stripedjob.pool.types import Batch, Failure, Lease, Recorded, Settlement, Then
from stripedjob.runtime import clock
from stripedjob.runtime.traces import Traces
from stripedjob.times import Histogram

STALLED_SECONDS = 60.0  # a loop that has not turned for so long is dead


class Observer:
    """Counts and tells. `job` names the job in logs and metrics."""

    def __init__(self, job: str, clock: Callable[[], float] = time.monotonic, traces: Traces | None = None) -> None:
        """Start with nothing connected. `traces`: where spans go, of times by the leases' clock."""
        self.job = job
        self._clock, self._traces = clock, traces
        self._turned_at = clock()
        self._pool_problem: str | None = "not connected to Postgres yet"
        self._lock_problem: str | None = None
        self.units: Counter[str] = Counter()  # by how their try ended
        self.counts: Counter[str] = Counter()  # as metrics.py says what there is to count
        self.wait, self.run = Histogram(), Histogram()

    @property
    def is_pool_up(self) -> bool:
        """Whether Postgres answers, as far as is known."""
        return self._pool_problem is None

    @property
    def is_lock_up(self) -> bool:
        """Whether the lock backend answers, as far as is known."""
        return self._lock_problem is None

    def turned(self) -> None:
        """Note that the loop is alive."""
        self._turned_at = self._clock()

    def connected(self, worker_id: int) -> None:
        """Note that Postgres answers."""
        if self._pool_problem is not None:
            self._log(logger.info, "connected to Postgres", worker=worker_id)
        self._pool_problem = None

    def disconnected(self, error: Exception) -> None:
        """Note that Postgres does not answer."""
        if self._pool_problem is None or not self._pool_problem.startswith(str(error)):
            is_away = isinstance(error, PoolUnreachableError)
            words = "Postgres cannot be reached; trying again" if is_away else "a call failed in Postgres; trying again"
            self._log(logger.warning, words, error=str(error))
        self._pool_problem = str(error)

    def lock_reachable(self, error: Exception | None) -> None:
        """Note whether the lock backend answers."""
        if error is None:
            self._log(logger.info, LOCK_BACK)
        elif self._lock_problem is None:
            self._log(logger.warning, LOCK_AWAY, error=str(error))
        self._lock_problem = None if error is None else str(error)

    def lost(self, worker_id: int) -> None:
        """Note that the worker was considered dead."""
        self._log(logger.warning, "considered dead: the leases passed to others; registering again", worker=worker_id)
        self.counts["losses"] += 1

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
        self.units["done"] += done
        self.counts["leases"] += batch.tally.claimed
        self.counts["lock_tries"] += batch.tally.lock_tries
        self.counts["lock_refusals"] += batch.tally.lock_refusals
        self.counts["batches"] += 1
        if lost:
            self.counts["stale"] += len(lost)
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
            self.units[failure.to.value] += 1
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
