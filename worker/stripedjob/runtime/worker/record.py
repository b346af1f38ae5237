"""The batches that Postgres has not acknowledged yet, and what is sent in place of one that it cannot store.

The loop has one Recorder. A batch whose answer was lost is sent again under the same number, and counts once. One that
cannot be stored is refused as a whole, and most of it is in order: so it is sent again lease by lease, and what is
refused then in plainer words. One outcome with odd content costs its own unit its words, and nobody anything else.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from stripedjob.pool.client.worker import WorkerPool
from stripedjob.pool.errors import PoolDataError
from stripedjob.pool.types import Batch, Failure, Settlement, Tally, Then
from stripedjob.runtime import clock
from stripedjob.runtime.observe import Observer

SMALLINT_MAX = 32_767
AFTER_SECONDS_MAX = 86_400.0


@dataclass(slots=True)
class Recorder:
    """Sends batches in order. `numbers` gives each the next number."""

    job_id: int
    numbers: Iterator[int]
    observer: Observer
    _batches: deque[Batch] = field(default_factory=deque)  # the first may have been sent already

    def __bool__(self) -> bool:
        """Return whether anything is not acknowledged."""
        return bool(self._batches)

    def fences(self) -> list[int]:
        """Return the fences of the leases in it."""
        return [one.lease.fence for batch in self._batches for one in batch.ended]

    def add(self, batch: Batch) -> None:
        """Take a batch in; it is sent after those before it."""
        self._batches.append(batch)

    async def send(self, pool: WorkerPool) -> list[str]:
        """Send all; returns the resources that were refused, because their leases were lost. Raises PoolError."""
        refused: list[str] = []
        while self._batches:
            refused += await self._send_first(pool, self._batches[0])
        return refused

    async def _send_first(self, pool: WorkerPool, batch: Batch) -> list[str]:
        asked = clock.now()
        try:
            recorded = await pool.settle(self.job_id, batch)
        except PoolDataError as error:
            self.observer.unstorable(batch, error)
            instead = plainer(batch, self.numbers, str(error))
            if not instead:
                raise
            self._batches.popleft()
            self._batches.extendleft(reversed(instead))
            return []
        self.observer.settled(batch, recorded, asked)
        self._batches.popleft()
        return list(recorded.refused)


def plainer(batch: Batch, numbers: Iterator[int], problem: str) -> list[Batch]:
    """Return the batches to send instead, with new numbers; [] where nothing plainer is left."""
    first, *others = batch.ended
    if others:
        tallies = [batch.tally] + [Tally()] * len(others)
        return [
            Batch(batch.worker_id, next(numbers), (one,), tally)
            for one, tally in zip(batch.ended, tallies, strict=True)
        ]
    plain = first._replace(failed=tuple(_plain(failure, problem) for failure in first.failed))
    if plain == first:
        plain = Settlement(first.lease, Then.READY, first.done)
    return [] if plain == first else [Batch(batch.worker_id, next(numbers), (plain,), batch.tally)]


def _plain(failure: Failure, problem: str) -> Failure:
    """Keep the verdict, in words and numbers that any database stores."""
    return replace(
        failure,
        kind=_ascii(failure.kind),
        reason=f"its reason could not be stored: {_ascii(problem)}"[:500],
        attempts=min(failure.attempts, SMALLINT_MAX),
        crashes=min(failure.crashes, SMALLINT_MAX),
        trace="",
        after_seconds=min(max(0.0, failure.after_seconds), AFTER_SECONDS_MAX),
    )


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode().replace("\0", "?")
