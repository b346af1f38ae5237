"""Who is replaced after a death, and when."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stripedjob.local.restarts import BACKOFF_SECONDS_MAX, EARLY_DEATHS_MAX, EARLY_SECONDS, Restarts

PASSING = [os.EX_UNAVAILABLE, *(-number for number in (signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM))]


def one_after_another(restarts: Restarts, codes: list[int], lived: float = 1.0) -> tuple[list[bool], list[float]]:
    """Each is started as soon as it may, and dies; what was said, and how long each start was put off."""
    now, said, waits = 100.0, [], []
    for code in codes:
        now += lived
        said.append(restarts.died(code, lived, now))
        died_at = now
        while not restarts.may_start(now):
            now += 0.125
        waits.append(now - died_at)
    return said, waits


@settings(deadline=None)
@given(st.lists(st.sampled_from(PASSING), max_size=100))
def test_deaths_that_pass_by_themselves_never_end_it_and_cost_little(codes: list[int]) -> None:
    said, waits = one_after_another(Restarts(), codes)
    assert all(said)
    assert waits == sorted(waits)
    assert all(0.5 <= wait <= BACKOFF_SECONDS_MAX for wait in waits)


@pytest.mark.parametrize("code", [2, os.EX_NOPERM, os.EX_CONFIG])
@pytest.mark.parametrize("lived", [1.0, EARLY_SECONDS + 1])
def test_what_the_next_would_meet_too_ends_it(code: int, lived: float) -> None:
    assert not Restarts().died(code, lived, 100.0)


def test_early_deaths_without_a_reason_end_it_after_some_rounds() -> None:
    said, _ = one_after_another(Restarts(), [1] * EARLY_DEATHS_MAX)
    assert said == [True] * (EARLY_DEATHS_MAX - 1) + [False]


def test_many_that_die_of_one_cause_at_once_count_once() -> None:
    restarts = Restarts()
    assert all(restarts.died(1, 1.0, 100.0) for _ in range(100))


def test_a_death_after_good_work_is_made_up_for_at_once() -> None:
    said, waits = one_after_another(Restarts(), [1, -9, 1] * 10, EARLY_SECONDS + 1)
    assert all(said)
    assert not any(waits)


def test_what_was_long_ago_does_not_count() -> None:
    restarts = Restarts()
    one_after_another(restarts, [1] * (EARLY_DEATHS_MAX - 1))
    assert restarts.died(1, 1.0, 10_000.0)
    assert not restarts.may_start(10_000.4)
    assert restarts.may_start(10_000.5)
