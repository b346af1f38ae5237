"""Every situation that a status can tell of, and what of it is written, when, and said in Events."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.support.factories import job, numbers

from stripedjob.spec.crd import crd
from stripedjob_operator.observed import LOCK_PENDING, Pod, Problem
from stripedjob_operator.status import View, conditions, events, patch, status

NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-01T00:05:00Z"
PROBLEM = Problem("PoolUnreachable", "Postgres does not answer")
LOCK = Problem("LockUnreachable", "Redis does not answer")
FAILS = Pod(ready=False, ending=False, deletion_cost="0", problem=Problem("WorkerFails", "no module named shop"))
WELL = View(job=job(), generation=3, numbers=numbers(), rolled_out=True)
BUSY = replace(WELL, numbers=numbers(ready_resources=5, pending=50), desired=5, replicas=5, ready=5)
PAUSED: dict[str, Any] = {"paused_by": "ann", "paused_why": "a flood", "paused_at": NOW}
HALTED = replace(WELL, numbers=replace(numbers(), **PAUSED))
CRON = {"cron": "* * * * *"}
BROKEN: dict[str, Any] = {"breaker_failures": 20, "breaker_kind": "HTTP 503", "breaker_until": NOW}
CLOSED = replace(WELL, job=job(retry={"circuitBreaker": {"failures": 20}}))
OPEN = replace(CLOSED, numbers=replace(numbers(), breaker_seconds=9.0, **BROKEN))
HALF_OPEN = replace(CLOSED, numbers=replace(numbers(), breaker_seconds=-1.0, **BROKEN))


def told(view: View) -> dict[str, tuple[str, str]]:
    texts = {True: "True", False: "False", None: "Unknown"}
    return {one.type: (texts[one.status], one.reason) for one in conditions(view)}


HEALTHY = {
    "Ready": ("True", "Idle"),
    "Progressing": ("False", "AsDesired"),
    "PoolReachable": ("True", "Reachable"),
    "LockReachable": ("True", "Reachable"),
    "Limited": ("False", "WithinLimit"),
    "Stalled": ("False", "NoProblem"),
    "UnitsHeld": ("False", "None"),
    "UnitsDead": ("False", "None"),
}
UNREAD = {
    "Ready": ("False", "PoolPending"),
    "PoolReachable": ("Unknown", "PoolPending"),
    "UnitsHeld": None,
    "UnitsDead": None,
}
AWAY = {
    "Ready": ("False", "PoolUnreachable"),
    "PoolReachable": ("False", "PoolUnreachable"),
    "Stalled": ("True", "PoolUnreachable"),
    "UnitsHeld": None,
    "UnitsDead": None,
}


@pytest.mark.parametrize(
    ("view", "different"),
    [
        (WELL, {}),
        (BUSY, {"Ready": ("True", "Working")}),
        (replace(WELL, job=job(suspend=True)), {"Ready": ("True", "Suspended")}),
        (replace(WELL, job=job(scheduleLimit=0)), {"Ready": ("True", "LimitIsZero")}),
        (replace(BUSY, ready=1), {"Ready": ("True", "Working"), "Progressing": ("True", "Scaling")}),
        (replace(BUSY, replicas=7), {"Ready": ("True", "Working"), "Progressing": ("True", "Scaling")}),
        (replace(BUSY, ready=0), {"Ready": ("False", "WorkersStarting"), "Progressing": ("True", "Scaling")}),
        (
            replace(BUSY, job=job(strategy="Delegator")),
            {"Ready": ("False", "DelegatorStarting"), "Progressing": ("False", "AsDesired")},
        ),
        (
            replace(BUSY, job=job(strategy="Delegator"), delegating=True),
            {"Ready": ("True", "Working"), "Progressing": ("False", "AsDesired")},
        ),
        (replace(BUSY, rolled_out=False), {"Ready": ("False", "RollingOut"), "Progressing": ("True", "Scaling")}),
        (
            replace(BUSY, ready=0, pods=(FAILS,)),
            {
                "Ready": ("False", "WorkerFails"),
                "Progressing": ("True", "Scaling"),
                "Stalled": ("True", "WorkerFails"),
            },
        ),
        (
            replace(BUSY, ready=4, pods=(FAILS,)),
            {"Ready": ("True", "Working"), "Progressing": ("True", "Scaling"), "Stalled": ("True", "WorkerFails")},
        ),
        (replace(BUSY, pods=(replace(FAILS, ending=True),)), {"Ready": ("True", "Working")}),
        (replace(WELL, numbers=None), UNREAD),
        (replace(WELL, numbers=None, pool=PROBLEM), AWAY),
        (
            replace(WELL, lock=LOCK_PENDING),
            {"Ready": ("False", "LockPending"), "LockReachable": ("Unknown", "LockPending")},
        ),
        (
            replace(WELL, lock=LOCK),
            {
                "Ready": ("False", "LockUnreachable"),
                "LockReachable": ("False", "LockUnreachable"),
                "Stalled": ("True", "LockUnreachable"),
            },
        ),
        (
            replace(WELL, apply=Problem("ApplyRefused", "no")),
            {"Ready": ("False", "ApplyRefused"), "Stalled": ("True", "ApplyRefused")},
        ),
        (
            replace(BUSY, numbers=numbers(ready_resources=21)),
            {"Ready": ("True", "Working"), "Limited": ("True", "Limit")},
        ),
        (
            replace(BUSY, job=job(concurrency=5), numbers=numbers(ready_resources=50, leased_resources=50)),
            {"Ready": ("True", "Working")},
        ),
        (
            replace(WELL, job=job(suspend=True), numbers=numbers(ready_resources=1)),
            {"Ready": ("True", "Suspended"), "Limited": ("True", "Limit")},
        ),
        (HALTED, {"Ready": ("True", "Paused")}),
        (CLOSED, {"CircuitBreaker": ("False", "CircuitClosed")}),
        (OPEN, {"CircuitBreaker": ("True", "CircuitOpen")}),
        (HALF_OPEN, {"CircuitBreaker": ("True", "CircuitOpen")}),
        (replace(OPEN, numbers=None), UNREAD),
        (
            replace(WELL, numbers=numbers(held=1, dead=2)),
            {"UnitsHeld": ("True", "UnitsHeld"), "UnitsDead": ("True", "UnitsDead")},
        ),
        (replace(WELL, job=job(schedule=CRON)), {"ScheduleWorks": ("True", "Scheduled")}),
        (
            replace(WELL, job=job(schedule=CRON), schedule=Problem("ScheduleFailed", "no")),
            {"ScheduleWorks": ("False", "ScheduleFailed")},
        ),
        (
            replace(WELL, job=job(schedule=CRON), numbers=None),
            UNREAD | {"ScheduleWorks": ("Unknown", "PoolPending")},
        ),
        (
            replace(WELL, job=job(schedule=CRON), numbers=None, pool=PROBLEM),
            AWAY | {"ScheduleWorks": ("Unknown", "PoolUnreachable")},
        ),
    ],
)
def test_the_conditions_of_a_situation(view: View, different: dict[str, Any]) -> None:
    assert told(view) == {name: what for name, what in (HEALTHY | different).items() if what}


@pytest.mark.parametrize("invalid", [Problem("InvalidSpec", "spec.a: is wrong"), Problem("PoolConflict", "older")])
def test_a_job_that_cannot_run_says_only_why(invalid: Problem) -> None:
    for view in (replace(WELL, invalid=invalid), View(None, 3, invalid=invalid)):
        assert told(view) == {"Ready": ("False", invalid.reason), "Stalled": ("True", invalid.reason)}
        assert conditions(view)[0].message == invalid.message


def test_the_first_of_several_problems_is_the_reason() -> None:
    view = replace(BUSY, numbers=None, ready=0, pool=PROBLEM, lock=LOCK, pods=(FAILS,))
    assert told(view)["Ready"] == ("False", "PoolUnreachable")
    assert told(replace(view, apply=Problem("ApplyRefused", "no")))["Ready"] == ("False", "ApplyRefused")
    assert told(replace(view, pool=None))["Ready"] == ("False", "LockUnreachable")


def test_the_whole_status_fits_the_crd() -> None:
    view = replace(
        BUSY,
        job=job(schedule=CRON),
        numbers=numbers(ready_resources=3, leased_resources=2, pending=50, in_flight=2, delayed=1, working=2),
        rate=123.456,
        scheduled_at=NOW,
    )
    made = status(view, {}, NOW)
    assert made["observedGeneration"] == 3
    assert made["jobType"] == "listing"
    assert made["selector"] == "app.kubernetes.io/name=stripedjob-worker,striped.dev/job=listing"
    assert (made["replicas"], made["workers"]) == (5, {"desired": 5, "ready": 5, "working": 2})
    assert made["pool"] == {"pending": 50, "delayed": 1, "inFlight": 2, "held": 0, "dead": 0, "resources": 5}
    assert (made["ratePerSecond"], made["lastScheduleTime"]) == (120, NOW)
    schema = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    assert made.keys() == schema["properties"].keys()
    for part in ("workers", "pool"):
        assert made[part].keys() == schema["properties"][part]["properties"].keys()
    for one in made["conditions"]:
        assert one.keys() == schema["properties"]["conditions"]["items"]["properties"].keys()
        assert one["observedGeneration"] == 3
        assert one["reason"].isalnum()
        assert one["message"]


@pytest.mark.parametrize(("rate", "shown"), [(0, 0), (0.1234, 0.12), (1.26, 1.3), (9.96, 10), (98765.4, 99000)])
def test_a_rate_has_two_digits(rate: float, shown: float) -> None:
    assert status(replace(WELL, rate=rate), {}, NOW)["ratePerSecond"] == shown


def test_the_time_of_a_condition_is_that_of_its_change() -> None:
    old = status(WELL, {}, NOW)
    times = {
        one["type"]: one["lastTransitionTime"] for one in status(replace(BUSY, lock=LOCK), old, LATER)["conditions"]
    }
    changed = {name for name, time in times.items() if time == LATER}
    assert changed == {"Ready", "LockReachable", "Stalled"}
    suspended = status(replace(WELL, job=job(suspend=True)), old, LATER)["conditions"]
    assert {one["lastTransitionTime"] for one in suspended} == {NOW}, "another reason alone is no transition"


def test_nothing_is_written_where_nothing_has_changed() -> None:
    old = status(BUSY, {}, NOW)
    assert patch(status(BUSY, old, LATER), old) is None
    assert patch(status(replace(BUSY, generation=4), old, LATER), old) is not None


def test_a_patch_takes_away_what_is_no_longer_so() -> None:
    old = status(replace(BUSY, scheduled_at=NOW), {}, NOW) | {"stale": 1}
    new = status(BUSY, old, LATER)
    assert new["lastScheduleTime"] == NOW
    made = patch(new, old)
    assert made is not None
    assert made["stale"] is None
    assert {name: value for name, value in made.items() if value is not None} == new


def test_numbers_that_cannot_be_read_are_those_of_before() -> None:
    old = status(replace(BUSY, rate=5.0), {}, NOW)
    new = status(replace(BUSY, numbers=None, pool=PROBLEM), old, LATER)
    assert new["pool"] == old["pool"]
    assert new["ratePerSecond"] == 0
    assert "pool" not in status(replace(BUSY, numbers=None, pool=PROBLEM), {}, NOW)
    invalid = status(View(None, 4, invalid=Problem("InvalidSpec", "no")), old, LATER)
    assert (invalid["workers"], invalid["observedGeneration"]) == (old["workers"], 4)


FULL = replace(BUSY, numbers=numbers(ready_resources=21, held=1, dead=1))


@pytest.mark.parametrize(
    "known", [BUSY, HALTED, OPEN, FULL, replace(WELL, lock=LOCK), replace(WELL, numbers=None, pool=PROBLEM)]
)
def test_an_operator_that_has_asked_nothing_yet_changes_no_condition(known: View) -> None:
    """As after each change of leader: it is no news of the StripedJob."""
    old, fresh = status(known, {}, NOW), replace(known, numbers=None, pool=None, lock=LOCK_PENDING)
    assert status(fresh, old, LATER)["conditions"] == old["conditions"]
    changed = status(replace(fresh, generation=4), old, LATER)["conditions"]
    assert changed[0]["reason"] == "LockPending", "a new spec is not known to work"


def test_the_condition_of_a_breaker_says_how_tries_fail_and_when_the_next_one_is() -> None:
    messages = [conditions(view)[-1].message for view in (OPEN, HALF_OPEN)]
    after, then = "after 20 failures alike: HTTP 503", "; `stripedjob resume` closes it"
    assert messages == [
        f"circuit breaker open until 00:00:00 UTC {after}; then one unit is tried{then}",
        f"circuit breaker half open {after}; one unit is tried next{then}",
    ]


def said(before: View | None, after: View) -> list[tuple[str, str]]:
    old = status(before, {}, NOW) if before else {}
    return [(kind, reason) for kind, reason, _ in events(status(after, old, LATER), old)]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (None, WELL, []),
        (None, BUSY, [("Normal", "Scaled")]),
        (WELL, WELL, []),
        (WELL, BUSY, [("Normal", "Scaled")]),
        (BUSY, replace(BUSY, ready=3, replicas=4), []),
        (WELL, replace(WELL, job=job(suspend=True)), [("Normal", "Suspended")]),
        (replace(WELL, job=job(suspend=True)), WELL, [("Normal", "Resumed")]),
        (WELL, HALTED, [("Normal", "Paused")]),
        (HALTED, WELL, [("Normal", "Resumed")]),
        (HALTED, replace(HALTED, job=job(suspend=True)), [("Normal", "Suspended")]),
        (CLOSED, OPEN, [("Warning", "CircuitOpen")]),
        (OPEN, HALF_OPEN, []),
        (HALF_OPEN, CLOSED, [("Normal", "CircuitClosed")]),
        (OPEN, WELL, []),
        (
            WELL,
            replace(WELL, numbers=None, pool=PROBLEM),
            [("Warning", "PoolUnreachable")],
        ),
        (WELL, replace(WELL, lock=LOCK), [("Warning", "LockUnreachable")]),
        (replace(WELL, lock=LOCK), WELL, [("Normal", "Reachable"), ("Normal", "NoProblem")]),
        (None, replace(WELL, lock=LOCK_PENDING), []),
        (replace(WELL, lock=LOCK_PENDING), WELL, []),
        (replace(WELL, lock=LOCK_PENDING), replace(WELL, lock=LOCK), [("Warning", "LockUnreachable")]),
        (replace(WELL, lock=LOCK), replace(WELL, lock=LOCK_PENDING), []),
        (HALTED, replace(HALTED, numbers=None), []),
        (WELL, replace(WELL, numbers=numbers(held=1, dead=1)), [("Warning", "UnitsDead"), ("Warning", "UnitsHeld")]),
        (replace(WELL, numbers=numbers(dead=3)), replace(WELL, numbers=numbers(dead=1)), []),
        (WELL, View(None, 4, invalid=Problem("InvalidSpec", "no")), [("Warning", "InvalidSpec")]),
        (None, View(None, 4, invalid=Problem("InvalidSpec", "no")), [("Warning", "InvalidSpec")]),
    ],
)
def test_the_events_of_a_change(before: View | None, after: View, expected: list[tuple[str, str]]) -> None:
    assert said(before, after) == expected
