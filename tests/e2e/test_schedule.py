"""The clock fires once a period, whatever becomes of the operators; pods work on what it enqueues."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from tests.cluster_kit.fixtures import await_
from tests.e2e.conftest import TICKS
from tests.support.pods import Clock

if TYPE_CHECKING:
    from tests.support.pods import Site

PERIOD_SECONDS = 60
FAR = "Asia/Kathmandu"  # 5:45 h ahead all year: no two of its minutes of an hour are UTC's
LATE_SECONDS = 25  # the next operator's turn, and a worker's start


@pytest.fixture(scope="module", autouse=True)
def zoned(site: Site) -> dict[str, Clock]:
    """Have clocks for one minute, soon, that is named in UTC or in a zone far away; they run beside the other test."""
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=PERIOD_SECONDS + LATE_SECONDS)
    utc, far = (f"{at:%-M %-H} * * *" for at in (soon, soon.astimezone(ZoneInfo(FAR))))
    return {
        "utc": Clock.start(site, TICKS, "utc", cron=utc),
        "far": Clock.start(site, TICKS, "far", cron=far, timeZone=FAR),
        "never": Clock.start(site, TICKS, "never", cron=far),
    }


@pytest.mark.acceptance("A44")
def test_once_a_period_whoever_leads(clock: Clock) -> None:
    leader, *others = clock.job.site.operators()
    assert others  # two are there
    clock.job.site.kubectl("delete", leader, "--wait=false")
    before = periods(clock)
    await_("the next leader fires", lambda: clock.job.done() > before * TICKS, PERIOD_SECONDS + LATE_SECONDS)
    await_("once for each period", lambda: clock.job.done() == TICKS * periods(clock), LATE_SECONDS)
    clock.job.jobs.until("ScheduleWorks", "Scheduled", clock.job.name)


@pytest.mark.acceptance("A44")
def test_in_utc_where_no_zone_is_named(zoned: dict[str, Clock]) -> None:
    jobs = [zoned[name].job for name in ("utc", "far")]
    await_("both fire", lambda: {job.done() for job in jobs} == {TICKS}, 2 * PERIOD_SECONDS + LATE_SECONDS)
    fired = {job.jobs.status(job.name)["lastScheduleTime"] for job in jobs}
    assert len(fired) == 1, "the same minute"
    assert zoned["never"].job.done() == 0


def periods(clock: Clock) -> int:
    """Count the minutes that have begun since the clock was started."""
    now: dt.datetime = clock.job.site.one("select clock_timestamp()")
    return int(now.timestamp() // PERIOD_SECONDS) - int(clock.began.timestamp() // PERIOD_SECONDS)
