"""A job's schedule on one machine: what it asks for is enqueued, once a period."""

import datetime as dt
import time
from collections.abc import Callable
from dataclasses import dataclass

from stripedjob.pool.client.operator import OperatorPool
from stripedjob.pool.errors import PoolError, PoolUnreachableError
from stripedjob.schedule import latest_due, schedule_key
from stripedjob.spec.model import StripedJob

RETRY_SECONDS = 10.0  # after a query of the schedule has failed


@dataclass(slots=True)
class Firing:
    """Fires the schedule of a job, where it has one. `note`: where it is said."""

    job: StripedJob
    job_id: int
    note: Callable[[str], None]
    _fired: dt.datetime | None = None
    _again_at: float = 0.0

    def fire(self, pool: OperatorPool) -> None:
        """Enqueue what the schedule asks for now; a query that fails is tried again. Raises PoolUnreachableError."""
        schedule = self.job.spec.schedule
        if schedule is None or self.job.spec.suspend or time.monotonic() < self._again_at:
            return
        due = latest_due(schedule, dt.datetime.now(dt.UTC))
        if due == self._fired:
            return
        query = schedule.enqueue.sql if schedule.enqueue else None
        try:
            units = pool.fire(self.job_id, schedule_key(schedule), due, query)
        except PoolUnreachableError:
            raise
        except PoolError as error:
            self._again_at = time.monotonic() + RETRY_SECONDS
            self.note(f"spec.schedule.enqueue.sql failed: {error}; trying again in {RETRY_SECONDS:g} s")
            return
        self._fired = due
        if units is not None:
            enqueued = "1 unit" if units == 1 else f"{units:,} units"
            self.note(f"the schedule has enqueued {enqueued} for {due:%Y-%m-%d %H:%M %Z}")
