"""What is sent in place of a batch that Postgres cannot store."""

from __future__ import annotations

from itertools import count

from stripedjob.pool.types import Batch, Failure, Fate, Lease, Settlement, Tally, Then
from stripedjob.runtime.worker.record import plainer


def settlement(name: str, *failed: Failure) -> Settlement:
    lease = Lease(name, 1, suspect=False, more=False, ids=(1,), attempts=(0,), crashes=(0,), payloads=("1",))
    return Settlement(lease, Then.IDLE, () if failed else (1,), failed)


def odd(**changes: object) -> Failure:
    given = {"reason": "caf\udce9", "trace": "\0", "attempts": 1, "crashes": 0, "after_seconds": 1e15} | changes
    return Failure(unit_id=1, to=Fate.DELAYED, **given)  # type: ignore[arg-type]


def test_a_batch_is_sent_lease_by_lease_under_new_numbers_and_its_counts_once() -> None:
    ended = (settlement("a"), settlement("b", odd()), settlement("c"))
    instead = plainer(Batch(7, 3, ended, Tally(claimed=5)), count(4), "why")
    assert [(one.worker_id, one.number, one.ended) for one in instead] == [
        (7, 4 + i, (given,)) for i, given in enumerate(ended)
    ]
    assert sum(one.tally.claimed for one in instead) == 5


def test_a_single_lease_is_sent_in_words_that_any_database_stores() -> None:
    (instead,) = plainer(Batch(7, 3, (settlement("b", odd(attempts=99_999)),), Tally()), count(4), "22P05 \udce9\0")
    (failure,) = instead.ended[0].failed
    assert (failure.to, failure.attempts, failure.trace) == (Fate.DELAYED, 32_767, "")
    assert failure.reason.isascii()
    assert "\0" not in failure.reason
    assert failure.after_seconds <= 86_400


def test_in_the_end_a_lease_goes_back_and_then_nothing_is_left() -> None:
    batch = Batch(7, 3, (settlement("b", odd()),), Tally())
    numbers = count(4)
    seen = []
    while instead := plainer(batch, numbers, "why"):
        (batch,) = instead
        seen.append(batch.ended[0])
    assert [(one.then, len(one.failed)) for one in seen] == [(Then.IDLE, 1), (Then.READY, 0)]
