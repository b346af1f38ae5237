from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stripedjob.runtime.worker.pace import AHEAD_SECONDS, GROWTH_MAX, Pace

SECONDS = st.floats(1e-6, 10.0)
SLOTS = st.integers(1, 64)
AHEAD = st.integers(0, 2_000) | st.integers(0, 64)
PLENTY = 10**9  # units asked for before, so that growth is no bound


def asked(seconds: float, slots: int, ahead: int) -> int:
    """Return how many units are asked for, of resources that have one each."""
    return Pace(seconds, PLENTY).ask(slots, ahead, 500, 100)[1]


@given(seconds=SECONDS, slots=SLOTS, ahead=AHEAD)
def test_nothing_is_leased_that_is_not_started_soon(seconds: float, slots: int, ahead: int) -> None:
    units = asked(seconds, slots, ahead)
    assert units == 0 or units + ahead <= max(slots, slots * AHEAD_SECONDS / seconds)


@given(seconds=SECONDS, slots=SLOTS, ahead=AHEAD)
def test_no_slot_waits_while_it_may_lease(seconds: float, slots: int, ahead: int) -> None:
    assert asked(seconds, slots, ahead) > 0 or ahead >= slots


@given(seconds=SECONDS, slots=SLOTS, ahead=AHEAD)
def test_a_claim_brings_more_than_a_few_units(seconds: float, slots: int, ahead: int) -> None:
    units, most = asked(seconds, slots, ahead), int(slots * AHEAD_SECONDS / seconds)
    assert units == 0 or ahead <= 2 * slots or units >= min(most // 2, 500)


def test_the_first_claim_is_of_a_unit_a_slot_and_the_next_ones_grow() -> None:
    pace, resources, each = Pace().ask(4, 0, 500, 100)
    assert (resources, each) == (4, 1)
    assert pace.ask(4, 4, 500, 100)[1:] == (0, 0)  # nothing is known yet
    pace = pace.measured(4, 4, 4e-6)
    assert pace.ask(4, 0, 500, 100)[1] == 4 * GROWTH_MAX
