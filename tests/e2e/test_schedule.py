"""The clock fires once a period, whatever becomes of the operators; pods work on what it enqueues."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.cluster_kit.fixtures import await_
from tests.e2e.conftest import TICKS

if TYPE_CHECKING:
    import datetime as dt

    from tests.support.pods import Clock

PERIOD_SECONDS = 60
LATE_SECONDS = 25  # the next operator's turn, and a worker's start


@pytest.mark.acceptance("A44")
def test_once_a_period_whoever_leads(clock: Clock) -> None:
    leader, *others = clock.job.site.operators()
    assert others  # two are there
    clock.job.site.kubectl("delete", leader, "--wait=false")
    before = periods(clock)
    await_("the next leader fires", lambda: clock.job.done() > before * TICKS, PERIOD_SECONDS + LATE_SECONDS)
    await_("once for each period", lambda: clock.job.done() == TICKS * periods(clock), LATE_SECONDS)
    assert clock.job.jobs.condition("ScheduleWorks", clock.job.name)["status"] == "True"


def periods(clock: Clock) -> int:
    """Count the minutes that have begun since the clock was started."""
    now: dt.datetime = clock.job.site.one("select clock_timestamp()")
    return int(now.timestamp() // PERIOD_SECONDS) - int(clock.began.timestamp() // PERIOD_SECONDS)
