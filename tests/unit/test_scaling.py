from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stripedjob.scaling import Load, Scale, scale
from stripedjob.spec.model import StripedJob

counts = st.integers(0, 100)
loads = st.none() | st.builds(Load, counts, counts, st.integers(0, 20))


def job(**spec: Any) -> StripedJob:
    return StripedJob.model_validate(
        {
            "apiVersion": "striped.dev/v1alpha1",
            "kind": "StripedJob",
            "metadata": {"name": "a"},
            "spec": {"handler": {"python": "a:b"}, "scheduleLimit": 20} | spec,
        }
    )


def workers(load: Load | None, now: Scale = Scale(), clock: float = 0.0, **spec: Any) -> int:  # noqa: B008 - frozen
    return scale(job(**spec), load, now, clock).workers


def test_workers_follow_resources_and_not_units() -> None:
    assert workers(Load(3, 0, 0)) == 3
    assert workers(Load(100, 0, 0)) == 20
    assert workers(Load(0, 0, 0)) == 0
    assert workers(Load(8, 0, 0), concurrency=4) == 2
    assert workers(Load(100, 28, 0), scaling={"resourcesPerWorker": 64}) == 2


def test_a_throttle_keeps_no_more_workers_than_it_lets_resources_out() -> None:
    load, throttle = Load(100, 2, 2), {"maxOutstanding": 6}
    assert workers(load, strategy="Throttled", throttle=throttle) == 6
    assert workers(load, strategy="Throttled", throttle=throttle, concurrency=4) == 2
    assert workers(load, strategy="Throttled", throttle=throttle | {"areaLabel": "area"}) == 20  # each area has as many


def test_out_at_once_and_in_after_the_delay() -> None:
    one = scale(job(), Load(10, 0, 0), Scale(2), 0)
    assert one == Scale(10)
    one = scale(job(), Load(1, 0, 0), one, 5)
    assert one == Scale(10, 5)
    one = scale(job(), Load(1, 0, 0), one, 64)
    assert one == Scale(10, 5)
    assert scale(job(), Load(1, 0, 0), one, 65) == Scale(1)
    assert scale(job(), Load(10, 0, 0), one, 65) == Scale(10)


def test_workers_at_work_are_not_taken_away() -> None:
    assert workers(Load(0, 2, 7), scaling={"scaleDownDelaySeconds": 0}) == 7


def test_other_modes() -> None:
    assert workers(None, scaling={"mode": "Fixed"}) == 20
    assert workers(None, scaling={"mode": "External"}, replicas=7) == 7
    assert workers(None, scaling={"mode": "External"}, minWorkers=2) == 2
    assert workers(Load(100, 0, 0), Scale(9), scaling={"mode": "External"}, replicas=1) == 1


def test_without_the_database_as_before_or_the_fallback() -> None:
    assert workers(None, Scale(7)) == 7
    assert workers(None, Scale(7), scaling={"fallbackWorkers": 3}) == 3


def test_suspended_or_alone() -> None:
    assert workers(Load(100, 0, 0), Scale(5), suspend=True, minWorkers=2) == 0
    assert workers(Load(100, 0, 0), Scale(5), parallel=False, minWorkers=2) == 1


@given(loads, st.integers(0, 30), st.integers(0, 20), st.sampled_from(["Backlog", "Fixed", "External"]))
def test_never_above_the_limit_nor_below_the_least(load: Load | None, now: int, least: int, mode: str) -> None:
    wanted = workers(load, Scale(now), minWorkers=least, scaling={"mode": mode})
    assert least <= wanted <= 20


@pytest.mark.parametrize(
    "spec", [{}, {"minWorkers": 2}, {"scaling": {"mode": "Fixed"}}, {"scaling": {"mode": "External"}}]
)
def test_a_paused_job_keeps_what_is_at_work_and_gets_nobody_else(spec: dict[str, Any]) -> None:
    assert workers(Load(100, 3, 3, paused=True), Scale(9), **spec) == 3
    assert workers(Load(100, 0, 0, paused=True), Scale(9), **spec) == 0
