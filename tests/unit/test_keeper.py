"""When a busy worker looks whether others are to be called."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stripedjob.runtime.worker.keeper import Keeper

if TYPE_CHECKING:
    from collections.abc import Callable


def looks(seconds: float, claims: Callable[[int], bool]) -> list[float]:
    """Return when it looks, of a turn each 5 ms; `claims` says in which of them something is leased."""
    now = 0.0
    keeper = Keeper(lambda: now)
    keeper.kept_up()
    found = []
    for turn in range(round(seconds / 0.005)):
        now = turn * 0.005
        if claims(turn):
            keeper.claimed()
        elif keeper.due_seconds() <= 0:
            keeper.kept_up()
            found.append(now)
    return found


def test_after_a_claim_it_looks_soon_and_then_less_and_less_often() -> None:
    assert looks(2.0, lambda turn: turn == 0) == pytest.approx([0.02, 0.1, 0.5, 1.0, 1.5])


def test_who_claims_all_the_time_looks_as_seldom_as_ever() -> None:
    assert looks(2.0, lambda turn: turn % 3 == 0) == pytest.approx([0.5, 1.0, 1.505], abs=0.011)


def test_a_busy_worker_looks_at_the_first_opportunity() -> None:
    assert Keeper(lambda: 5.0).due_seconds() <= 0
