from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stripedjob.pool.types import Fate, Lease, Then
from stripedjob.runtime.outcome import Fault, Outcome, Verdict
from stripedjob.runtime.worker.decide import AWAY_SECONDS, RetryPolicy, kind_of, settle

LEASE = Lease("a", 7, False, False, (11, 12, 13), (0, 0, 0), (0, 0, 0), ("1", "2", "3"))  # noqa: FBT003
DICE = random.Random(1)
SKIP, BLOCK, DEAD = (RetryPolicy(on_failure=way) for way in ("Skip", "Block", "Dead"))


def outcome(tried: int, *faults: Fault, first: int = 0, final: bool = True) -> Outcome:
    return Outcome(0, first, tried, faults, final)


def test_all_done_leaves_nothing() -> None:
    settled = settle(LEASE, outcome(3), SKIP, DICE)
    assert (settled.done, settled.then, settled.failed) == ((11, 12, 13), Then.IDLE, ())
    assert settle(LEASE, outcome(3)._replace(recorded=3), SKIP, DICE).done == ()  # the handler's commit said it
    assert settle(LEASE, outcome(3, first=1), SKIP, DICE).done == (12, 13)
    assert settle(LEASE._replace(more=True), outcome(3), SKIP, DICE).then is Then.READY


def test_units_that_were_not_started_go_back() -> None:
    settled = settle(LEASE, outcome(1), SKIP, DICE)
    assert (settled.done, settled.then, settled.failed) == ((11,), Then.READY, ())


def test_a_partial_outcome_keeps_the_lease() -> None:
    settled = settle(LEASE, outcome(2, first=1, final=False), SKIP, DICE)
    assert (settled.done, settled.then) == ((12,), Then.KEEP)


def test_a_retry_is_delayed_and_the_rest_goes_on_or_the_whole_resource_waits() -> None:
    fault = Fault(0, Verdict.RETRY, "busy", after_seconds=9)
    skipped, blocked = (settle(LEASE, outcome(1, fault), policy, DICE) for policy in (SKIP, BLOCK))
    assert (skipped.failed[0].to, skipped.failed[0].after_seconds, skipped.then) == (Fate.DELAYED, 9, Then.READY)
    assert (blocked.failed[0].to, blocked.wait_seconds, blocked.then) == (Fate.READY, 9, Then.WAIT)


def test_a_held_unit_blocks_until_a_person_comes() -> None:
    settled = settle(LEASE, outcome(1, Fault(0, Verdict.HOLD, "ask")), BLOCK, DICE)
    assert (settled.then, settled.wait_seconds) == (Then.WAIT, math.inf)


def test_the_maximum_of_attempts_is_honoured() -> None:
    fault = Fault(0, Verdict.RETRY, "busy")
    tried = LEASE._replace(attempts=(3, 0, 0))
    assert settle(tried, outcome(1, fault), SKIP, DICE).failed[0].to is Fate.DELAYED
    tried = LEASE._replace(attempts=(4, 0, 0))
    assert settle(tried, outcome(1, fault), SKIP, DICE).failed[0].to is Fate.DEAD
    assert settle(LEASE, outcome(1, fault), DEAD, DICE).failed[0].to is Fate.DEAD


@pytest.mark.parametrize(("crashes", "to"), [(0, Fate.READY), (4, Fate.HELD)])
def test_crashes_hold_a_unit_at_the_threshold(crashes: int, to: Fate) -> None:
    lease = LEASE._replace(crashes=(crashes, 0, 0))
    failure = settle(lease, outcome(0, Fault(0, Verdict.CRASH, "died")), SKIP, DICE).failed[0]
    assert (failure.to, failure.crashes, failure.attempts) == (to, crashes + 1, 0)


@given(st.integers(1, 1000), st.integers())
def test_a_backoff_is_never_above_its_maximum(attempt: int, seed: int) -> None:
    assert 0 < SKIP.backoff(attempt, random.Random(seed)) <= SKIP.backoff_seconds_max


@pytest.mark.parametrize("policy", [SKIP, BLOCK, DEAD])
def test_what_was_no_try_goes_back_as_it_was_after_a_moment(policy: RetryPolicy) -> None:
    settled = settle(LEASE, outcome(1)._replace(away="the connection to Postgres was lost"), policy, DICE)
    assert (settled.done, settled.failed) == ((11,), ())
    assert (settled.then, settled.wait_seconds) == (Then.WAIT, AWAY_SECONDS)


def test_a_trace_goes_with_its_failure() -> None:
    settled = settle(LEASE, outcome(1, Fault(0, Verdict.RETRY, "broken", trace="here")), SKIP, DICE)
    assert settled.failed[0].as_row()["trace"] == "here"


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("ValueError: no such listing: 7 (listings.py:3 in apply)", "ValueError"),
        ("ValueError (listings.py:3 in apply)", "ValueError"),
        ("HTTP 503: come back at 12:05", "HTTP 503"),
        ("HTTP 502", "HTTP 502"),
        ("HTTP 302: it points to http://x/y, and redirects are not followed", "HTTP 302"),
        ("ClientConnectorError: [Errno 111] Connect call failed ('127.0.0.1', 1)", "ClientConnectorError"),
        ("no answer within 30 s", "no answer within 30 s"),
        ("it exited with code 3: what a day", "it exited with code 3"),
        ("it died of SIGKILL", "it died of SIGKILL"),
        ("it ran over its 300 s and was stopped", "it ran over its 300 s and was stopped"),
        ("at 12:05 again", "at 12:05 again"),
        (": odd", ": odd"),
        ("two\nlines", "two"),
        ("x" * 9_999, "x" * 200),
        ("", ""),
    ],
)
def test_failures_are_alike_by_the_head_of_their_reason(reason: str, kind: str) -> None:
    assert kind_of(reason) == kind


@pytest.mark.parametrize(
    ("verdict", "kind"), [(Verdict.RETRY, "ValueError"), (Verdict.HOLD, ""), (Verdict.DEAD, ""), (Verdict.CRASH, "")]
)
def test_only_a_try_that_failed_has_a_kind(verdict: Verdict, kind: str) -> None:
    for attempts in (0, 4):
        lease = LEASE._replace(attempts=(attempts, 0, 0))
        failure = settle(lease, outcome(1, Fault(0, verdict, "ValueError: 7")), SKIP, DICE).failed[0]
        assert (failure.kind, failure.as_row()["kind"]) == (kind, kind or None)
