"""When a worker claims next, and whether with upkeep."""

from __future__ import annotations

import pytest
from tests.support.leases import lease

from stripedjob.runtime.worker.claiming import Claiming

WANTED = 4


class Times:
    """A worker's decisions, and a clock that the test moves."""

    def __init__(self, *, gathers: bool = True) -> None:
        self.now = 100.0
        self.claiming = Claiming(lambda: self.now, gathers=gathers)

    def claim(self, count: int, *, more: bool = False, seconds: float = 0.0) -> Claiming:
        """Claim, at the time that it is, and be answered so much later."""
        asked = self.now
        self.now += seconds
        leases = [lease(f"{number}", 1)._replace(more=more) for number in range(count)]
        self.claiming.claimed(leases, WANTED, asked)
        return self.claiming


def test_at_first_everything_is_due() -> None:
    claiming = Times().claiming
    assert claiming.is_due(is_busy=False)
    assert claiming.is_upkeep_due()
    assert claiming.rest() <= 0


def test_after_a_full_claim_the_next_is_due_at_once_and_upkeep_later() -> None:
    times = Times()
    claiming = times.claim(WANTED)
    assert claiming.is_due(is_busy=True)
    assert not claiming.is_upkeep_due()
    times.now += 0.1
    assert claiming.is_upkeep_due()


def test_after_a_short_claim_who_is_busy_waits_and_does_upkeep_then() -> None:
    times = Times()
    claiming = times.claim(WANTED - 1)
    assert not claiming.is_due(is_busy=True)
    times.now += 0.051
    assert claiming.is_due(is_busy=True)
    assert claiming.is_upkeep_due()


def test_after_a_short_claim_who_has_no_work_rests_first() -> None:
    times = Times()
    claiming = times.claim(1)
    times.now += 60
    assert not claiming.is_due(is_busy=False)
    claiming.rest()
    assert claiming.is_due(is_busy=False)


@pytest.mark.parametrize("seconds", [0.0, 0.004, 0.01, 0.2])
def test_who_took_all_that_there_was_lets_more_come_for_ten_milliseconds(seconds: float) -> None:
    """From when it asked: who was at work for as long waits no longer."""
    assert Times().claim(1, seconds=seconds).rest() == pytest.approx(0.01 - seconds)


def test_who_is_given_work_by_a_delegator_waits_for_nothing() -> None:
    assert Times(gathers=False).claim(1).rest() <= 0


@pytest.mark.parametrize(("count", "more"), [(WANTED, False), (1, True), (0, False)])
def test_who_left_something_or_found_nothing_waits_for_nothing(count: int, *, more: bool) -> None:
    """A resource with many units is claimed again and again: that is no work that comes one by one."""
    assert Times().claim(count, more=more).rest() <= 0


def test_who_left_units_of_what_it_leased_claims_them_without_asking_once() -> None:
    claiming = Times().claim(1, more=True)
    claiming.rest()
    assert [claiming.comes_again(), claiming.comes_again()] == [True, False]
    assert not Times().claim(WANTED).comes_again()


def test_who_has_waited_asks_first_and_where_that_was_worth_it_claims_without() -> None:
    times = Times()
    found = []
    for count in (1, 1, 1, 0, 1):
        claiming = times.claim(count, seconds=0.004)
        times.now += max(0.0, claiming.rest())
        found.append(claiming.comes_again())
    assert found == [False, True, True, False, False]


def test_who_was_at_work_for_long_asks_first() -> None:
    times = Times()
    for _ in range(3):
        claiming = times.claim(1, seconds=0.02)
        assert claiming.rest() <= 0
    assert not claiming.comes_again()


def test_nothing_is_due_where_the_pool_has_nothing() -> None:
    claiming = Times().claiming
    claiming.claimable = False
    assert not claiming.is_due(is_busy=False)
