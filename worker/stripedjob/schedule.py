"""Pure: a cron expression → the period that is due. Asked at every tick by the operator and by `stripedjob run`.

Cron names readings of the clock on the wall; CronSim finds those. What they are in real time is decided here, in UTC,
where no reading is skipped or repeated. docs/operator.md has the rule.
"""

import datetime as dt
from zoneinfo import ZoneInfo

from cronsim import CronSim

from stripedjob.spec.model import Schedule

MINUTE = dt.timedelta(minutes=1)


def latest_due(schedule: Schedule, now: dt.datetime) -> dt.datetime:
    """Return the latest time at or before `now` that the schedule names, in UTC: missed ones count once.

    `now` has a time zone. Raises ValueError where the schedule has named no time for 50 years.
    """
    zone = ZoneInfo(schedule.time_zone)
    local = now.astimezone(zone).replace(second=0, microsecond=0)
    reading = local.replace(tzinfo=None, fold=0)
    # In the second pass of a repeated hour, what the first pass read after this is of the past too.
    repeated = local.astimezone(dt.UTC) - local.replace(fold=0).astimezone(dt.UTC)
    # Backwards, CronSim begins before the minute it is given.
    readings = CronSim(schedule.cron, reading + repeated + MINUTE, reverse=True)
    times = _both if _is_frequent(readings) else _first
    found: list[dt.datetime] = []
    for named in readings:
        found += [time for time in times(named, zone) if time <= now]
        if found and named <= reading:
            return max(found)
    raise ValueError(f"the schedule {schedule.cron!r} names no time")


def schedule_key(schedule: Schedule) -> str:
    """Return what the pool remembers the schedule by: with another one it begins again."""
    return f"{schedule.cron} {schedule.time_zone}"


def _is_frequent(cron: CronSim) -> bool:
    """Return whether it is a frequency, not times of the day: minute or hour begins with * or has every value."""
    _, minute, hour, *_ = cron.parts
    every = len(cron.minutes) == 60 or len(cron.hours) == 24  # noqa: PLR2004 - of an hour, of a day
    return every or minute.startswith("*") or hour.startswith("*")


def _both(reading: dt.datetime, zone: ZoneInfo) -> list[dt.datetime]:
    """Return every time at which the clock reads so: none in a skipped hour, two in a repeated one."""
    passes = [reading.replace(tzinfo=zone, fold=fold).astimezone(dt.UTC) for fold in (0, 1)]
    return [time for time in passes if time.astimezone(zone).replace(tzinfo=None, fold=0) == reading]


def _first(reading: dt.datetime, zone: ZoneInfo) -> list[dt.datetime]:
    """Return the first time at which the clock reads so; where the reading is skipped, the minute after the skip."""
    there = _both(reading, zone)
    if there:
        return [there[0]]
    time = reading.replace(tzinfo=zone).astimezone(dt.UTC)  # after the skip, by as much as the reading is into it
    while time.astimezone(zone).utcoffset() == (time - MINUTE).astimezone(zone).utcoffset():
        time -= MINUTE
    return [time]
