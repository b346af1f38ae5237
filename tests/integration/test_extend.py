"""unit.extend: a try that may take longer than timeoutSeconds, as long as its handler says so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tests.support.leases import lease, run

from stripedjob import Unit
from stripedjob.runtime.executor.wire import Config
from stripedjob.runtime.handlers.settings import HandlerSettings
from stripedjob.runtime.outcome import Outcome, Verdict
from stripedjob.runtime.shared_state import Running, SharedState
from stripedjob.unit import TRY_SECONDS_MAX

ROOT = str(Path(__file__).parents[2])


def stretched(*payloads: Any, function: str = "stretch", slots: int = 1, **changes: Any) -> Outcome:
    """Work on one lease under a time-out of a second."""
    handler = HandlerSettings("python", (f"tests.support.handlers:{function}",), timeout_seconds=1, **changes)
    return run([lease("a", *payloads)], Config(handler, slots, path=ROOT))[0]


@pytest.mark.parametrize(
    ("function", "per_resource"), [("stretch", False), ("stretch_async", False), ("stretch_batch", True)]
)
def test_an_extended_try_goes_on_after_timeout_seconds(function: str, per_resource: bool) -> None:  # noqa: FBT001
    ended = stretched(
        {"extend": 30, "pause": 1.6}, {"extend": 30, "pause": 1.6}, function=function, per_resource=per_resource
    )
    assert (ended.tried, ended.faults) == (2, ())


@pytest.mark.parametrize("function", ["stretch", "stretch_async"])
def test_an_extended_try_is_stopped_when_that_time_is_over(function: str) -> None:
    (fault,) = stretched({"extend": 1.5, "pause": 3600}, function=function).faults
    assert (fault.index, fault.verdict) == (0, Verdict.RETRY)
    (seconds,) = re.findall(r"it ran over its ([\d.]+) s and was stopped", fault.reason)
    assert float(seconds) >= 1.5


def test_an_extension_is_of_one_try_alone() -> None:
    (fault,) = stretched({"extend": 30, "pause": 0}, {"extend": 0.001, "pause": 3600}).faults
    assert (fault.index, fault.reason) == (1, "it ran over its 1 s and was stopped")


def test_a_thread_of_the_handler_may_extend() -> None:
    assert stretched("thread").faults == ()


@pytest.mark.parametrize("seconds", [0, -1, TRY_SECONDS_MAX + 1])
def test_an_extension_has_bounds(seconds: float) -> None:
    (fault,) = stretched({"extend": seconds, "pause": 0}).faults
    assert f"cannot be extended by {seconds:g} s: give more than 0, and at most 86400 s in all" in fault.reason


def test_a_unit_whose_try_is_over_cannot_be_extended() -> None:
    (fault,) = stretched("keep", "stale").faults
    assert "extend() works while the unit's own handler runs; unit 1 is not at work here" in fault.reason


def test_a_unit_in_another_process_or_made_by_hand_cannot_be_extended() -> None:
    (fault,) = stretched("copied").faults
    assert "in its process; this is not there" in fault.reason
    with pytest.raises(RuntimeError, match="while the unit's own handler runs"):
        Unit(1, "a", 1, 1, "null").extend(5)


def test_an_extension_that_comes_too_late_does_not_count_for_the_next_unit() -> None:
    shared_state = SharedState.create(1)
    shared_state.start(0, key=7, index=1, now=10.0)
    shared_state.extend(0, key=7, index=0, until=99.0)
    assert shared_state.running() == [Running(7, 1, 10.0)]
    shared_state.extend(0, key=7, index=1, until=99.0)
    assert shared_state.running() == [Running(7, 1, 10.0, 99.0)]
    shared_state.close()
