"""Counts of how long units wait and run, and what is read out of them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.leases import lease

from stripedjob.runtime.outcome import LongCall, Outcome
from stripedjob.runtime.worker.timing import Timing
from stripedjob.times import BOUNDS_SECONDS, BUCKETS, Histogram, bucket, percentiles, quantile, said, summary

NOW = 1000.0


def counts_of(*seconds: float) -> list[int]:
    histogram = Histogram()
    for one in seconds:
        histogram.add(one)
    return histogram.counts


def test_bounds_are_from_a_millisecond_to_an_hour_and_rise() -> None:
    assert (BOUNDS_SECONDS[0], BOUNDS_SECONDS[-1]) == (0.001, 3600)
    assert list(BOUNDS_SECONDS) == sorted(set(BOUNDS_SECONDS))
    assert all(b / a <= 3 for a, b in itertools.pairwise(BOUNDS_SECONDS))


@pytest.mark.parametrize(("seconds", "found"), [(-1.0, 0), (0.0, 0), (0.001, 0), (0.0011, 1), (3600, BUCKETS - 2)])
def test_a_bound_is_in_its_bucket(seconds: float, found: int) -> None:
    assert bucket(seconds) == found


def test_what_is_longer_than_all_bounds_is_in_the_last_bucket() -> None:
    assert bucket(3600.1) == bucket(float("inf")) == BUCKETS - 1


def test_quantiles_lie_within_their_bucket() -> None:
    counts = counts_of(*[0.0005] * 90, *[0.3] * 9, 100.0)
    assert quantile(counts, 0.5) == pytest.approx(0.001 * 50 / 90)
    assert 0.25 < (quantile(counts, 0.95) or 0) <= 0.5
    assert 60 < (quantile(counts, 0.999) or 0) <= 120
    assert quantile([0] * BUCKETS, 0.5) is None
    assert quantile(counts_of(10_000.0), 0.5) == 3600


@given(st.lists(st.floats(0, 10_000), min_size=1, max_size=50), st.floats(0.01, 1))
def test_a_quantile_is_in_the_bucket_of_the_one_that_it_is_an_estimate_of(seconds: list[float], share: float) -> None:
    found = quantile(counts_of(*seconds), share)
    rank = min(len(seconds), max(1, -int(-share * len(seconds) // 1)))
    exact = sorted(seconds)[rank - 1]
    upper = BOUNDS_SECONDS[min(bucket(exact), len(BOUNDS_SECONDS) - 1)]
    lower = BOUNDS_SECONDS[bucket(exact) - 1] if bucket(exact) else 0.0
    assert found is not None
    assert lower * 0.999 <= found <= upper * 1.001


def test_percentiles_are_named() -> None:
    assert percentiles(counts_of(0.3, 0.3)) == {
        "p50": pytest.approx(0.375),
        "p95": pytest.approx(0.4875),
        "p99": pytest.approx(0.4975),
    }
    assert percentiles([]) == {"p50": None, "p95": None, "p99": None}


def test_a_summary_is_of_what_was_said_of_the_last_minutes() -> None:
    runs = counts_of(*[0.02] * 30)
    recent = {"seconds": 300, "waits": counts_of(7.0), "wait_seconds": 7, "runs": runs, "run_seconds": 0.6}
    found = summary(recent)
    assert (found["seconds"], found["tries"], found["per_second"]) == (300, 30, 0.1)
    assert 5 < found["wait"]["p50"] <= 10
    assert 0.01 < found["run"]["p99"] <= 0.025
    nothing = summary({"seconds": 250, "waits": [], "wait_seconds": 0, "runs": [], "run_seconds": 0})
    assert (nothing["tries"], nothing["per_second"], nothing["run"]["p50"]) == (0, 0, None)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "-"),
        (0.0004, "under 1 ms"),
        (0.0124, "12 ms"),
        (0.9996, "1.0 s"),
        (1.25, "1.2 s"),
        (42.4, "42 s"),
        (600.0, "10 min"),
        (3600, "1 h or more"),
    ],
)
def test_estimates_are_said_with_as_many_digits_as_say_something(seconds: float | None, words: str) -> None:
    assert said(seconds) == words


def outcome(tried: int, *calls: LongCall, seconds: float = 0.0, first: int = 0) -> Outcome:
    return Outcome(1, first, tried, (), True, seconds, at=NOW + seconds, calls=calls)  # noqa: FBT003


def test_quick_units_are_counted_together() -> None:
    timing = Timing(Histogram(), Histogram())
    timing.took([(lease("a", *range(10))._replace(oldest=NOW - 2, newest=NOW - 2), outcome(10, seconds=0.005))])
    assert timing.wait.counts == counts_of(*[2.001] * 10)
    assert timing.run.counts == counts_of(*[0.0005] * 10)
    assert timing.run.seconds == pytest.approx(0.005)
    assert timing.wait.seconds == pytest.approx(20.025)


def test_slow_calls_are_counted_one_by_one_and_what_is_behind_them_waits_for_them() -> None:
    timing = Timing(Histogram(), Histogram())
    calls = (LongCall(1, 1, NOW + 0.002, 4.0), LongCall(3, 1, NOW + 4.004, 70.0))
    timing.took(
        [(lease("a", *range(4))._replace(oldest=NOW - 0.02, newest=NOW - 0.02), outcome(4, *calls, seconds=74.1))]
    )
    assert timing.run.counts == counts_of(0.0005, 4.0, 0.0005, 70.0)
    assert timing.wait.counts == counts_of(0.021, 0.022, 4.02, 4.02)


def test_the_units_of_one_call_share_its_start_and_its_time() -> None:
    timing = Timing(Histogram(), Histogram())
    one = lease("a", *range(3))._replace(oldest=NOW - 40, newest=NOW - 0.02)
    timing.took([(one, outcome(3, LongCall(0, 3, NOW, 7.0), seconds=7.0))])
    assert timing.run.counts == counts_of(7.0, 7.0, 7.0)
    assert timing.wait.counts == counts_of(40, 20, 0.02)
    assert timing.run.seconds == pytest.approx(21)
    assert timing.wait.seconds == pytest.approx(60.03)


def test_what_died_is_counted_as_what_it_took() -> None:
    timing = Timing(Histogram(), Histogram())
    timing.took([(lease("a", *range(4)), outcome(0)._replace(calls=(LongCall(2, 1, NOW - 300, 300.0),)))])
    assert timing.run.counts == counts_of(300.0)
    assert sum(timing.wait.counts) == 1


@given(st.integers(1, 40), st.floats(0, 5000), st.floats(0, 5000), st.floats(0, 0.04))
def test_each_unit_is_counted_once(units: int, oldest: float, span: float, seconds: float) -> None:
    timing = Timing(Histogram(), Histogram())
    one = lease("a", *range(units))._replace(oldest=NOW - oldest, newest=NOW - max(0.0, oldest - span))
    timing.took([(one, outcome(units, seconds=seconds))])
    assert (sum(timing.wait.counts), sum(timing.run.counts)) == (units, units)


def test_news_are_what_came_since_they_were_recorded() -> None:
    timing = Timing(Histogram(), Histogram())
    assert timing.news() is None
    timing.took([(lease("a", *range(1)), outcome(1))])
    first = timing.news()
    assert first is not None
    assert (first.runs, first.waits) == (timing.run.counts, timing.wait.counts)
    timing.took([(lease("a", *range(1)), outcome(1))])
    timing.recorded(first)
    second = timing.news()
    assert second is not None
    assert sum(second.runs) == 1
    timing.recorded(second)
    assert timing.news() is None
