"""`stripedjob run`: as many worker processes as the scaling function says, on this machine, without a cluster.

One loop: look at the pool → decide how many → start or end → show. Workers do all the work by themselves; when this
process is killed, they end, and their leases run out.
"""

import datetime as dt
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from stripedjob.local.crew import Crew, Member, Said
from stripedjob.pool.admin import JobStatus, PoolAdmin
from stripedjob.pool.errors import PoolError, PoolUnreachableError
from stripedjob.scaling import Load, Scale, scale
from stripedjob.schedule import latest_due, schedule_key
from stripedjob.spec.model import StripedJob

if TYPE_CHECKING:
    from collections.abc import Callable

BUSY_TICK_SECONDS = 0.2
IDLE_TICK_SECONDS = 1.0  # an idle job costs little
RATE_SECONDS = 5.0  # over which the rate is measured
EARLY_SECONDS = 10.0  # a worker that dies so young did not get to work
EARLY_DEATHS_MAX = 5  # in a row: something is wrong with all of them
FATAL_CODES = {2, 77, 78}  # the next worker would end in the same way
DRAIN_GRACE_SECONDS = 5.0  # on top of drainSeconds, before workers are killed
UNREACHABLE_SECONDS_MAX = 600.0


class CrewError(Exception):
    """Workers cannot be kept alive; `code` is the exit code of the last."""

    def __init__(self, message: str, code: int) -> None:
        """Take what to say, and the exit code."""
        super().__init__(message)
        self.code = code


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
        """Show a line of a worker."""

    def progress(self, progress: Progress) -> None:
        """Show how far it is."""

    def note(self, words: str) -> None:
        """Show what the supervisor does."""


@dataclass(slots=True)
class Supervisor:
    """Keeps the crew as large as the pool needs it. `run` returns when told to stop, or when nothing is left to do."""

    job: StripedJob
    job_id: int
    open_pool: "Callable[[], PoolAdmin]"
    crew: Crew
    view: View
    until_empty: bool
    stopping: bool = False
    kill: bool = False
    peak: int = 0
    _scale: Scale = field(default_factory=Scale)
    _pool: PoolAdmin | None = None
    _seen: "deque[tuple[float, int]]" = field(default_factory=deque)
    _fired: dt.datetime | None = None
    _early_deaths: int = 0
    _unreachable_since: float | None = None

    def run(self) -> None:
        """Work until told to stop or, with `until_empty`, until nothing is left. Raises CrewError, PoolError."""
        try:
            while not self.stopping:
                status = self._look()
                self._bury()
                self._man(status)
                self._show(status)
                if self.until_empty and status is not None and self._is_over(status):
                    break
                self._wait(status)
            self._drain()
        finally:
            self.crew.kill()

    def _look(self) -> JobStatus | None:
        """Read the pool's numbers; None while Postgres is away."""
        try:
            if self._pool is None:
                self._pool = self.open_pool()
            self._pool.upkeep(self.job_id)
            self._fire(self._pool)
            status = self._pool.status(self.job_id)
        except PoolUnreachableError as error:
            self._pool = None
            now = time.monotonic()
            if self._unreachable_since is None:
                self.view.note(f"{error}; trying again")
            self._unreachable_since = self._unreachable_since or now
            if now - self._unreachable_since > UNREACHABLE_SECONDS_MAX:
                raise
            return None
        self._unreachable_since = None
        return status

    def _fire(self, pool: PoolAdmin) -> None:
        """Enqueue what the schedule asks for now, once a period; a query that fails waits for the next."""
        schedule = self.job.spec.schedule
        if schedule is None or self.job.spec.suspend:
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
            self.view.note(f"spec.schedule.enqueue.sql failed: {error}")
        else:
            if units is not None:
                self.view.note(f"the schedule has enqueued {units} units for {due:%Y-%m-%d %H:%M %Z}")
        self._fired = due

    def _bury(self) -> None:
        """Take note of processes that died; the next ones are started by the count."""
        for member in self.crew.bury():
            if member.ending:
                continue
            code = member.process.returncode
            early = time.monotonic() - member.started_at < EARLY_SECONDS
            self._early_deaths = self._early_deaths + 1 if early else 0
            words = member.last_error or (f"it died of signal {-code}" if code < 0 else f"exit code {code}")
            if code in FATAL_CODES or self._early_deaths >= EARLY_DEATHS_MAX:
                raise CrewError(words, code if code > 0 else 1)
            self.view.note(f"{member.role} {member.name} has ended ({words}); it is replaced")

    def _man(self, status: JobStatus | None) -> None:
        """Start or end workers, idle ones first."""
        load = status and Load(status.ready_resources, status.leased_resources, status.working)
        self._scale = scale(self.job, load or None, self._scale, time.monotonic())
        if self.job.strategy.delegated and self._scale.workers and not self.crew.at_work("delegator"):
            self.crew.start("delegator")
        there = self.crew.at_work()
        for _ in range(self._scale.workers - len(there)):
            self.crew.start()
        self.peak = max(self.peak, len(self.crew.at_work()))
        surplus = len(there) - self._scale.workers
        if surplus > 0:
            for member in self._idle_first(there)[:surplus]:
                self.crew.end(member)

    def _idle_first(self, members: list[Member]) -> list[Member]:
        working = set()
        if self._pool is not None:
            working = {one.name for one in self._pool.workers(self.job_id) if one.working}
        return sorted(members, key=lambda member: member.name in working)

    def _is_over(self, status: JobStatus) -> bool:
        busy = status.pending or status.delayed or status.leased_resources
        return not busy and self._pool is not None and self._pool.is_empty(self.job_id)

    def _drain(self) -> None:
        """Tell all to end, and wait for them."""
        for member in self.crew.members:
            self.crew.end(member)
        end = time.monotonic() + self.job.spec.drain_seconds + DRAIN_GRACE_SECONDS
        while self.crew.members and time.monotonic() < end and not self.kill:
            self._hear()
            self.crew.bury()
            time.sleep(0.02)
        self._hear()

    def _wait(self, status: JobStatus | None) -> None:
        idle = status is not None and not (status.pending or status.leased_resources or self.until_empty)
        end = time.monotonic() + (IDLE_TICK_SECONDS if idle else BUSY_TICK_SECONDS)
        while not self.stopping and (left := end - time.monotonic()) > 0:
            self._hear()
            time.sleep(min(left, 0.05))

    def _hear(self) -> None:
        while not self.crew.said.empty():
            self.view.said(self.crew.said.get_nowait())

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
