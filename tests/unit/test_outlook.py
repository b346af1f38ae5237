"""How far a run is and what it waits for: no state in which nothing is done looks like another."""

from __future__ import annotations

from dataclasses import MISSING, fields, replace
from itertools import combinations
from typing import Any

import pytest

from stripedjob.cli.wording import facts, logged, waited
from stripedjob.local.outlook import Facts, Meter, Progress, Wait, WorkingTime, waits
from stripedjob.pool.client.viewer import JobStatus, Waiting
from stripedjob.text import counted, duration, rated

ZEROS: dict[str, Any] = {field.name: 0 for field in fields(JobStatus) if field.default is MISSING}
STATUS = JobStatus(**ZEROS | {"schedule_limit": 4, "workers": 2})
IDLE = Facts(STATUS, Waiting(), workers=2)


def of(status: dict[str, Any], waiting: Waiting | None = None, **more: Any) -> Facts:
    return replace(IDLE, status=replace(STATUS, **status), waiting=waiting or Waiting(), **more)


BROKEN = {"breaker_failures": 20, "breaker_kind": "HTTP 503", "breaker_until": "2026-03-01T12:00:10+00:00"}
RETRY = Waiting(unit=7, unit_resource="r", unit_seconds=281.0, unit_reason="no")
STATES: dict[str, Facts] = {
    "nothing to do": IDLE,
    "draining: 1 worker still at work; Ctrl-C again ends at once (1:00 left)": of({}, draining=1, drain_seconds=60.0),
    "Postgres is away: refused": of({"pending": 3}, pool_away="refused"),
    "the lock backend is away: refused": of({"pending": 3}, lock_away="refused"),
    "the job is suspended: nothing is claimed": of({"pending": 3, "schedule_limit": 0}, suspended=True),
    "scheduleLimit is 0: nothing is claimed": of({"pending": 3, "schedule_limit": 0}),
    "--workers is 0: others have to do the work": of({"pending": 3, "workers": 0}, none_asked=True, workers=0),
    "circuit breaker open until 12:00:10 UTC after 20 failures alike: HTTP 503; then one unit is tried (0:10 left)": of(
        {"pending": 3, "ready_resources": 3, "breaker_seconds": 10.0} | BROKEN
    ),
    "circuit breaker open until 12:00:10 UTC after 20 failures alike: HTTP 503; then one unit is tried (0:09 left)": of(
        {"delayed": 1, "breaker_seconds": 9.0} | BROKEN, RETRY
    ),
    "circuit breaker half open after 20 failures alike: HTTP 503; one unit is tried next": of(
        {"pending": 3, "leased_resources": 1, "breaker_seconds": -3.0} | BROKEN
    ),
    "2 workers starting": of({"pending": 3, "ready_resources": 3, "workers": 0}),
    "unit 7 of r waits for a retry (4:41 left)": of({"delayed": 1}, RETRY),
    "unit 7 of r waits for its time (4:41 left)": of({"delayed": 1}, replace(RETRY, unit_reason=None)),
    "unit 7 of r waits for its time, which is never": of(
        {"delayed": 1}, replace(RETRY, unit_reason=None, unit_seconds=None)
    ),
    "r waits for a retry (0:05 left)": of(
        {"pending": 2}, Waiting(resource="r", resource_seconds=5, resource_reason="no")
    ),
    "r waits for its unit 8 (0:05 left)": of({"pending": 2}, Waiting(resource="r", resource_seconds=5, barrier=8)),
    "r waits for its lock, which somebody else has, or for a server that is away (0:05 left)": of(
        {"pending": 2}, Waiting(resource="r", resource_seconds=5)
    ),
    "1 resource waits for a person: a held unit, or a pause": of({"pending": 2}, Waiting(for_person=1)),
    "2,000 resources wait for a person: a held unit, or a pause": of({"pending": 2}, Waiting(for_person=2000)),
}


@pytest.mark.parametrize("words", STATES)
def test_what_is_waited_for_is_said(words: str) -> None:
    assert [waited(wait) for wait in waits(STATES[words])] == [words]


def test_no_two_states_look_alike() -> None:
    shown = [waits(state) for state in STATES.values()]
    assert all(a != b for a, b in combinations(shown, 2))


@pytest.mark.parametrize("status", [{"pending": 3, "leased_resources": 1}, {"pending": 3, "ready_resources": 2}])
def test_what_works_waits_for_nothing(status: dict[str, int]) -> None:
    assert waits(of(status)) == ()


def test_a_slow_rate_is_taken_over_more_time() -> None:
    meter = Meter()
    rates = [meter.rate(second, second // 8) for second in range(120)]  # a unit every 8 seconds
    assert all(0.1 < rate < 0.15 for rate in rates[40:])
    assert meter.rate(120, 1000) > 10


def test_a_quick_rate_follows_what_happens_now() -> None:
    meter = Meter()
    for tenth in range(200):
        meter.rate(tenth / 10, tenth * 100)
    assert meter.rate(26.0, 19_900) == pytest.approx(0, abs=700)
    assert [meter.rate(26 + second, 19_900) for second in range(1, 80)][-1] == 0


def test_the_time_that_workers_take_to_start_does_not_count() -> None:
    meter = Meter()
    rates = [meter.rate(second / 2, max(0, second - 4) * 50) for second in range(10)]
    assert rates[4:] == [0.0, *[100.0] * 5]
    meter = Meter()
    assert [meter.rate(second, second // 30) for second in range(61)][30:] == pytest.approx(
        [*(1 / second for second in range(30, 60)), 2 / 60]
    )


def test_numbers_do_not_contradict_one_another() -> None:
    shown = dict(facts(Progress(replace(STATUS, delayed=1), 2, 0.0, None)))
    assert (shown["pending"], shown["ETA"], shown["rate"], shown["delayed"]) == ("0", "-", "0.0/s", "1")
    assert [rated(rate) for rate in (0, 0.05, 0.5, 1.26, 12, 12_345.6)] == [
        *("0.0/s", "3.0/min", "30.0/min", "1.3/s", "12/s", "12,346/s")
    ]
    assert [duration(seconds) for seconds in (0.2, 7, 281, 3723)] == ["0:00", "0:07", "4:41", "1:02:03"]
    assert [counted(1, "unit"), counted(2, "unit"), counted(2000, "retry", "retries")] == [
        *("1 unit", "2 units", "2,000 retries")
    ]


def test_the_working_time_begins_with_the_work_and_ends_with_the_last_unit() -> None:
    working = WorkingTime()
    for now, busy, done in ((0, False, 0), (5, False, 0), (6, True, 0), (7, True, 3), (8, True, 9), (20, True, 9)):
        working.saw(now, busy=busy, done=done)
    assert working.seconds == 8 - 5  # the last look at which nothing was leased yet
    assert WorkingTime().seconds == 0


RECORD = {"level": "warning", "logger": "stripedjob", "timestamp": "x", "job": "default/a"}
FAILURE = {"unit": 7, "resource": "r", "fence": 3, "attempts": 1, "crashes": 0, "reason": "KeyError: 'x'"}


@pytest.mark.parametrize(
    ("event", "more", "words"),
    [
        ("unit ready", {"after_seconds": 290.271}, "unit 7 of r failed and is tried again in 4:50 (1 attempt)"),
        ("unit delayed", {"after_seconds": 5.0}, "unit 7 of r failed and is tried again in 0:05 (1 attempt)"),
        ("unit ready", {"after_seconds": 0.0, "crashes": 2}, "failed and is tried again (1 attempt, crashes: 2)"),
        ("unit held", {"attempts": 0}, "unit 7 of r is held until a person releases it: KeyError"),
        (
            *("unit delayed", {"after_seconds": 5.0, "spared": True}),
            "failed and is tried again in 0:05 (1 attempt, spared by the circuit breaker): KeyError",
        ),
        ("unit failed too late", {}, "unit 7 of r failed, of which nothing was recorded: its lease had been lost (1"),
        ("unit dead", {"attempts": 5}, "unit 7 of r is dead (5 attempts): KeyError: 'x'"),
    ],
)
def test_a_failure_is_told_in_words(event: str, more: dict[str, Any], words: str) -> None:
    (line,) = logged({"event": event, **RECORD, **FAILURE, **more})
    assert words in line


def test_other_records_have_their_values_quoted_and_nothing_forged() -> None:
    line, *trace = logged({"event": "odd", **RECORD, "a": 1, "b": "two words", "c": "x\n\x1b[2J", "traceback": "t\nu"})
    assert line == r'odd a=1 b="two words" c=x\n\x1b[2J'
    assert trace == ["    t", "    u"]
    assert waited(Wait("x", 0.0)) == "x (0:00 left)"
