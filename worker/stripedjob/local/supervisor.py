"""`stripedjob run`: as many worker processes as the scaling function says, on this machine, without a cluster.

One loop: look at the pool → decide how many → start or end → show. Workers do all the work by themselves; when this
process is killed, they end, and their leases run out.
"""

import datetime as dt
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from stripedjob.local.crew import Crew, Member
from stripedjob.local.hearing import Printed, Said
from stripedjob.local.link import Link
from stripedjob.local.restarts import Restarts
from stripedjob.pool.admin import JobStatus, PoolAdmin
from stripedjob.pool.errors import PoolError, PoolUnreachableError
from stripedjob.scaling import Load, Scale, scale
from stripedjob.schedule import latest_due, schedule_key
from stripedjob.spec.model import StripedJob

BUSY_TICK_SECONDS = 0.2
IDLE_TICK_SECONDS = 1.0  # an idle job costs little
RATE_SECONDS = 5.0  # over which the rate is measured
SCHEDULE_RETRY_SECONDS = 10.0  # after a query of the schedule has failed
DRAIN_GRACE_SECONDS = 5.0  # on top of drainSeconds, before workers are killed
LAST_LOOK_SECONDS = 30.0  # for the numbers at the end, where Postgres is away just then


class CrewError(Exception):
    """Workers cannot be kept alive; `code` is the exit code of the last."""

    def __init__(self, message: str, code: int) -> None:
        """Take what to say, and the exit code."""
        super().__init__(message)
        self.code = code


class Killed(BaseException):
    """Told to stop a second time: everything ends at once, wherever it is."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a view shows. `rate` in units a second; `eta_seconds` None where it cannot be said."""

    status: JobStatus
    workers: int
    rate: float
    eta_seconds: float | None


class View(Protocol):
    """Where progress goes."""

    def said(self, said: Said) -> None:
        """Show a record of a worker's log."""

    def printed(self, printed: Printed) -> None:
        """Show a line that a worker's handler has printed."""

    def progress(self, progress: Progress) -> None:
        """Show how far it is."""

    def note(self, words: str) -> None:
        """Show what the supervisor does."""


@dataclass(slots=True)
class Supervisor:
    """Keeps the crew as large as the pool needs it. `run` returns when told to stop, or when nothing is left to do."""

    job: StripedJob
    job_id: int
    link: Link
    crew: Crew
    view: View
    until_empty: bool
    stopping: bool = False
    peak: int = 0
    last: JobStatus | None = None  # the numbers as they were seen last
    _scale: Scale = field(default_factory=Scale)
    _restarts: Restarts = field(default_factory=Restarts)
    _seen: "deque[tuple[float, int]]" = field(default_factory=deque)
    _fired: dt.datetime | None = None
    _fire_again_at: float = 0.0

    def run(self) -> None:
        """Work until told to stop or, with `until_empty`, nothing is left. Raises CrewError, PoolError, Killed."""
        try:
            while not self.stopping:
                status = self.link.ask(self._look)
                self._bury()
                self._man(status)
                self._show(status)
                if self.until_empty and status is not None and self._is_over(status):
                    break
                self._wait(status)
            self._drain()
            self._look_last()
        finally:
            self.crew.kill()
            self.link.close()

    def stop(self) -> None:
        """Drain; told so again, end at once. For signal handlers, which come at any moment."""
        if self.stopping:
            raise Killed
        self.stopping = True
        self.crew.end_all()

    def _look(self, pool: PoolAdmin) -> JobStatus:
        """Keep the pool up, and read its numbers."""
        pool.upkeep(self.job_id)
        pool.clean([self.job_id])
        self._fire(pool)
        self.last = pool.status(self.job_id)
        return self.last

    def _fire(self, pool: PoolAdmin) -> None:
        """Enqueue what the schedule asks for now, once a period; a query that fails is tried again."""
        schedule = self.job.spec.schedule
        if schedule is None or self.job.spec.suspend or time.monotonic() < self._fire_again_at:
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
            self._fire_again_at = time.monotonic() + SCHEDULE_RETRY_SECONDS
            self.view.note(f"spec.schedule.enqueue.sql failed: {error}; trying again in {SCHEDULE_RETRY_SECONDS:g} s")
            return
        self._fired = due
        if units is not None:
            self.view.note(f"the schedule has enqueued {units} units for {due:%Y-%m-%d %H:%M %Z}")

    def _bury(self) -> None:
        """Take note of processes that died; the next ones are started by the count."""
        now = time.monotonic()
        for member in self.crew.bury():
            if member.ending:
                continue
            code = member.process.returncode
            words = member.last_words or (f"it died of signal {-code}" if code < 0 else f"exit code {code}")
            if not self._restarts.died(code, now - member.started_at, now):
                self._hear()
                raise CrewError(words, code)
            self.view.note(f"{member.role} {member.name} has ended ({words}); it is replaced")

    def _man(self, status: JobStatus | None) -> None:
        """Start or end workers, idle ones first."""
        now = time.monotonic()
        load = status and Load(status.ready_resources, status.leased_resources, status.working)
        self._scale = scale(self.job, load or None, self._scale, now)
        there = self.crew.at_work()
        if self._restarts.may_start(now) and not self.stopping:
            if self.job.strategy.delegated and self._scale.workers and not self.crew.at_work("delegator"):
                self.crew.start("delegator")
            for _ in range(self._scale.workers - len(there)):
                self.crew.start()
        self.peak = max(self.peak, len(self.crew.at_work()))
        surplus = len(there) - self._scale.workers
        if surplus > 0:
            for member in self._idle_first(there)[:surplus]:
                self.crew.end(member)

    def _idle_first(self, members: list[Member]) -> list[Member]:
        """Give them in the order in which they end; none while the pool does not say who is idle."""
        workers = self.link.ask(lambda pool: pool.workers(self.job_id))
        if workers is None:
            return []
        working = {one.name for one in workers if one.working}
        return sorted(members, key=lambda member: member.name in working)

    def _is_over(self, status: JobStatus) -> bool:
        busy = status.pending or status.delayed or status.leased_resources
        return not busy and bool(self.link.ask(lambda pool: pool.is_empty(self.job_id)))

    def _drain(self) -> None:
        """Tell all to end, and wait for them."""
        self.crew.end_all()
        end = time.monotonic() + self.job.spec.drain_seconds + DRAIN_GRACE_SECONDS
        while self.crew.members and time.monotonic() < end:
            self._hear()
            self.crew.bury()
            time.sleep(0.02)
        self.crew.kill()
        self.crew.bury()
        self._hear()

    def _look_last(self) -> None:
        """Read the numbers once more, now that all has ended."""
        end = time.monotonic() + LAST_LOOK_SECONDS
        while (status := self.link.ask(lambda pool: pool.status(self.job_id))) is None:
            if time.monotonic() > end:
                self.view.note("Postgres is still away: the numbers are those that were seen last")
                return
            time.sleep(IDLE_TICK_SECONDS)
        self.last = status

    def _wait(self, status: JobStatus | None) -> None:
        idle = status is not None and not (status.pending or status.leased_resources or self.until_empty)
        end = time.monotonic() + (IDLE_TICK_SECONDS if idle else BUSY_TICK_SECONDS)
        while not self.stopping and (left := end - time.monotonic()) > 0:
            self._hear()
            time.sleep(min(left, 0.05))

    def _hear(self) -> None:
        heard, left_out = self.crew.heard.take()
        for one in heard:
            if isinstance(one, Said):
                self.view.said(one)
            else:
                self.view.printed(one)
        if left_out:
            self.view.note(f"{left_out} lines of the workers were left out: they came faster than they can be shown")

    def _show(self, status: JobStatus | None) -> None:
        if status is None:
            return
        now = time.monotonic()
        self._seen.append((now, status.total_done))
        while now - self._seen[0][0] > RATE_SECONDS:
            self._seen.popleft()
        seconds = now - self._seen[0][0]
        rate = (status.total_done - self._seen[0][1]) / seconds if seconds else 0.0
        left = status.pending + status.delayed
        self.view.progress(Progress(status, len(self.crew.at_work()), rate, left / rate if rate else None))
