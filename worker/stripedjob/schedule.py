"""Pure: a cron expression → the period that is due. Asked at every tick by the operator and by `stripedjob run`."""

import datetime as dt
from zoneinfo import ZoneInfo

from cronsim import CronSim

from stripedjob.spec.model import Schedule


def latest_due(schedule: Schedule, now: dt.datetime) -> dt.datetime:
    """Give the latest time at or before `now` (with a time zone) that the schedule names: missed ones count once."""
    minute = now.astimezone(ZoneInfo(schedule.time_zone)).replace(second=0, microsecond=0)
    # Backwards, CronSim begins before the minute it is given.
    return next(CronSim(schedule.cron, minute + dt.timedelta(minutes=1), reverse=True))


def schedule_key(schedule: Schedule) -> str:
    """Give what the pool remembers the schedule by: with another one it begins anew."""
    return f"{schedule.cron} {schedule.time_zone}"
