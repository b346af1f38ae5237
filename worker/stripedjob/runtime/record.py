"""Pure: what to send in place of a batch that Postgres could not store. The loop asks when that happens.

A batch is refused as a whole, and most of it is in order. So it is sent again lease by lease, and what is refused then
in plainer words, so that one outcome with odd content costs its own unit its words, and nobody anything else.
"""

from collections.abc import Iterator
from dataclasses import replace

from stripedjob.pool.types import Batch, Failure, Settlement, Tally, Then

SMALLINT_MAX = 32_767
AFTER_SECONDS_MAX = 86_400.0


def plainer(batch: Batch, numbers: Iterator[int], problem: str) -> list[Batch]:
    """Give the batches to send instead, with new numbers; [] where nothing plainer is left."""
    first, *others = batch.ended
    if others:
        tallies = [batch.tally] + [Tally()] * len(others)
        return [
            Batch(batch.worker_id, next(numbers), (one,), tally)
            for one, tally in zip(batch.ended, tallies, strict=True)
        ]
    plain = replace(first, failed=tuple(_plain(failure, problem) for failure in first.failed))
    if plain == first:
        plain = Settlement(first.lease, Then.READY, first.done)
    return [] if plain == first else [Batch(batch.worker_id, next(numbers), (plain,), batch.tally)]


def _plain(failure: Failure, problem: str) -> Failure:
    """Keep the verdict, in words and numbers that any database stores."""
    return replace(
        failure,
        attempts=min(failure.attempts, SMALLINT_MAX),
        crashes=min(failure.crashes, SMALLINT_MAX),
        reason=f"its reason could not be stored: {problem}".encode("ascii", "replace")
        .decode()
        .replace("\0", "?")[:500],
        trace="",
        after_seconds=min(max(0.0, failure.after_seconds), AFTER_SECONDS_MAX),
    )
