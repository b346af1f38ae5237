"""The schedule's clock: minute by minute through the nights in which clocks are put forward or back."""

from __future__ import annotations

import datetime as dt
import itertools
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from stripedjob.schedule import latest_due
from stripedjob.spec.model import Schedule

MINUTE = dt.timedelta(minutes=1)
# When clocks change: by an hour, by half an hour, by a whole day; at 2 o'clock and at midnight; and where they do not.
NIGHTS = {
    "Europe/Berlin": ["2026-03-29T01:00Z", "2026-10-25T01:00Z"],
    "America/New_York": ["2026-03-08T07:00Z", "2026-11-01T06:00Z"],
    "Australia/Lord_Howe": ["2026-04-04T15:00Z", "2026-10-03T15:30Z"],
    "Africa/Cairo": ["2026-04-23T22:00Z", "2026-10-29T21:00Z"],
    "Pacific/Apia": ["2011-12-30T10:00Z"],
    "Asia/Kolkata": ["2026-03-29T01:00Z"],
    "UTC": ["2026-03-29T01:00Z"],
}
ALL = [(zone, night) for zone, nights in NIGHTS.items() for night in nights]


def minutes(night: str, hours: int, step: int = 1) -> list[dt.datetime]:
    middle = dt.datetime.fromisoformat(night)
    return [middle + n * MINUTE for n in range(-60 * hours, 60 * hours, step)]


def served(cron: str, zone: str, times: list[dt.datetime]) -> list[dt.datetime]:
    """What is enqueued by somebody who looks in each of these minutes, at its last second."""
    schedule = Schedule.model_validate({"cron": cron, "timeZone": zone})
    due = [latest_due(schedule, time + dt.timedelta(seconds=59)) for time in times]
    assert due == sorted(due)
    return [one for one in dict.fromkeys(due) if one >= times[0]]


def by_the_wall(cron: str, zone: str, times: list[dt.datetime]) -> list[dt.datetime]:
    """Those of the times at which the clock on the wall reads what the expression names."""
    readings = {time: time.astimezone(ZoneInfo(zone)).replace(tzinfo=None, fold=0) for time in times}
    last = max(readings.values())
    named = set(itertools.takewhile(last.__ge__, CronSim(cron, min(readings.values()) - MINUTE)))
    return [time for time, reading in readings.items() if reading in named]


@pytest.mark.parametrize(("zone", "night"), ALL)
@pytest.mark.parametrize("cron", ["* * * * *", "*/15 * * * *", "0 * * * *", "30 */2 * * *", "7,37 0-23 * * *"])
def test_a_frequent_schedule_has_every_period_of_every_night(cron: str, zone: str, night: str) -> None:
    times = minutes(night, 3)
    assert served(cron, zone, times) == by_the_wall(cron, zone, times)


@settings(max_examples=25, deadline=None)
@given(
    night=st.sampled_from(ALL),
    minute=st.sampled_from(["*", "*/7", "*/20", "0", "5,45", "0-29"]),
    hour=st.sampled_from(["*", "*/3", "0-23", "1-3", "2", "0"]),
    day=st.sampled_from(["*", "1-7", "*/2"]),
    weekday=st.sampled_from(["*", "SUN", "0,4-6"]),
)
def test_each_time_is_served_once_and_in_order(
    night: tuple[str, str], minute: str, hour: str, day: str, weekday: str
) -> None:
    zone, cron = night[0], f"{minute} {hour} {day} * {weekday}"
    times = minutes(night[1], 2)
    due, by_the_clock = served(cron, zone, times), by_the_wall(cron, zone, times)
    if minute.startswith("*") or hour in {"*", "*/3", "0-23"}:
        assert due == by_the_clock
        return
    readings = {time.astimezone(ZoneInfo(zone)).replace(tzinfo=None, fold=0): time for time in reversed(by_the_clock)}
    skipped = [time for time in due if time not in by_the_clock]
    assert [time for time in due if time in by_the_clock] == sorted(readings.values())
    # What is no reading of the clock makes up for one that was skipped: at the minute after the skip.
    assert all(_jumps(zone, time) for time in skipped)


def _jumps(zone: str, time: dt.datetime) -> bool:
    before, after = ((time + shift).astimezone(ZoneInfo(zone)).utcoffset() for shift in (-MINUTE, 0 * MINUTE))
    assert before is not None
    assert after is not None
    return after > before


@pytest.mark.parametrize(("zone", "night"), [one for one in ALL if one[0] != "Pacific/Apia"])  # which lacks a day
@pytest.mark.parametrize("cron", ["30 2 * * *", "0 0 * * *", "45 1 * * *", "59 23 * * *"])
def test_a_daily_schedule_comes_once_a_night(cron: str, zone: str, night: str) -> None:
    due = served(cron, zone, minutes(night, 60, step=10))
    days = [time.astimezone(ZoneInfo(zone)).date() for time in due]
    assert len(days) == len(set(days)), due
    assert len(days) >= 4


@pytest.mark.parametrize(
    ("cron", "zone", "now", "due"),
    [
        ("30 2 * * *", "Europe/Berlin", "2026-03-29T01:10Z", "2026-03-29T01:00Z"),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T01:50Z", "2026-10-25T00:30Z"),
        ("0 0 29 2 *", "Europe/Berlin", "2026-10-25T01:50Z", "2024-02-28T23:00Z"),
        ("*/30 2 29 3 *", "Europe/Berlin", "2026-05-01T00:00Z", "2025-03-29T01:30Z"),
    ],
)
def test_the_latest_time(cron: str, zone: str, now: str, due: str) -> None:
    found = latest_due(Schedule.model_validate({"cron": cron, "timeZone": zone}), dt.datetime.fromisoformat(now))
    assert found == dt.datetime.fromisoformat(due)
