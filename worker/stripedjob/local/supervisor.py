"""`stripedjob run`: as many worker processes as the scaling function says, on this machine, without a cluster.

One loop: look at the pool → decide how many → start or end → show. Workers do all the work by themselves; when this
process is killed, they end, and their leases run out.
"""

import time
from dataclasses import dataclass, field

from stripedjob.local.firing import Firing
from stripedjob.local.link import Link
from stripedjob.local.outlook import Facts, Meter, Progress, View, WorkingTime, waits
from stripedjob.local.output import LogLine
from stripedjob.local.processes import Process, ProcessGroup
from stripedjob.local.restarts import Restarts
from stripedjob.pool.client.operator import OperatorPool
from stripedjob.pool.client.viewer import JobStatus, Waiting
from stripedjob.scaling import Load, Scale, scale
from stripedjob.spec.model import StripedJob

BUSY_TICK_SECONDS = 0.2
IDLE_TICK_SECONDS = 1.0  # an idle job costs little
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


@dataclass(slots=True)
class Supervisor:
    """Keeps as many processes as the pool needs. `run` returns when told to stop, or when nothing is left to do."""

    job: StripedJob
    job_id: int
    link: Link
    processes: ProcessGroup
    view: View
    until_empty: bool
    stopping: bool = False
    peak: int = 0
    last: JobStatus | None = None  # the numbers as they were seen last
    working: WorkingTime = field(default_factory=WorkingTime)
    _scale: Scale = field(default_factory=Scale)
    _restarts: Restarts = field(default_factory=Restarts)
    _meter: Meter = field(default_factory=Meter)
    _first: JobStatus | None = None
    _waiting: Waiting = field(default_factory=Waiting)
    _drain_end: float | None = None  # once it was told to end

    def run(self) -> None:
        """Work until told to stop or, with `until_empty`, nothing is left. Raises CrewError, PoolError, Killed."""
        firing = Firing(self.job, self.job_id, self.view.note)
        try:
            while not self.stopping:
                status = self.link.ask(lambda pool: self._look(pool, firing))
                self._reap()
                self._man(status)
                self._show()
                if self.until_empty and status is not None and self._is_over(status):
                    break
                self._wait(status)
            self._drain()
            self._look_last()
        finally:
            self.processes.kill()
            self.link.close()

    def stop(self) -> None:
        """Drain; told so again, end at once. For signal handlers, which come at any moment."""
        if self.stopping:
            raise Killed
        self.stopping = True
        self.processes.end_all()

    def _look(self, pool: OperatorPool, firing: Firing) -> JobStatus:
        """Keep the pool up, and read its numbers."""
        pool.upkeep(self.job_id)
        pool.clean([self.job_id])
        firing.fire(pool)
        status = pool.status(self.job_id)
        idle = not (status.ready_resources or status.leased_resources)
        self._waiting = pool.waiting(self.job_id) if idle else Waiting()
        self._saw(status)
        return status

    def _saw(self, status: JobStatus) -> None:
        self.last, self._first = status, self._first or status
        busy = status.leased_resources > 0 or status.total_claimed > self._first.total_claimed
        self.working.saw(time.monotonic(), busy=busy, done=status.total_done - self._first.total_done)

    def _reap(self) -> None:
        """Take note of processes that died; the next ones are started by the count."""
        now = time.monotonic()
        for member in self.processes.reap():
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
        paused = status is not None and status.paused_by is not None
        load = status and Load(status.ready_resources, status.leased_resources, status.working, paused)
        self._scale = scale(self.job, load or None, self._scale, now)
        there = self.processes.at_work()
        if self._restarts.may_start(now) and not self.stopping:
            if self.job.strategy.delegated and self._scale.workers and not self.processes.at_work("delegator"):
                self.processes.start("delegator")
            for _ in range(self._scale.workers - len(there)):
                self.processes.start()
        self.peak = max(self.peak, len(self.processes.at_work()))
        surplus = len(there) - self._scale.workers
        if surplus > 0:
            for member in self._idle_first(there)[:surplus]:
                self.processes.end(member)

    def _idle_first(self, members: list[Process]) -> list[Process]:
        """Return them in the order in which they end; none while the pool does not say who is idle."""
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
        self.processes.end_all()
        seconds = self.job.spec.drain_seconds
        now = time.monotonic()
        end = now + seconds + DRAIN_GRACE_SECONDS
        if self.stopping:
            self._drain_end = now + seconds
            self.view.note(f"draining for up to {seconds} s; Ctrl-C again ends everything at once")
        while self.processes.members and time.monotonic() < end:
            self._hear()
            self.processes.reap()
            self._show()
            time.sleep(0.02)
        self.processes.kill()
        self.processes.reap()
        self._hear()

    def _look_last(self) -> None:
        """Read the numbers once more, now that all has ended."""
        end = time.monotonic() + LAST_LOOK_SECONDS
        while (status := self.link.ask(lambda pool: pool.status(self.job_id))) is None:
            if time.monotonic() > end:
                self.view.note("Postgres is still away: the numbers are those that were seen last")
                return
            time.sleep(IDLE_TICK_SECONDS)
        self._saw(status)

    def _wait(self, status: JobStatus | None) -> None:
        idle = status is not None and not (status.pending or status.leased_resources or self.until_empty)
        end = time.monotonic() + (IDLE_TICK_SECONDS if idle else BUSY_TICK_SECONDS)
        while not self.stopping and (left := end - time.monotonic()) > 0:
            self._hear()
            time.sleep(min(left, 0.05))

    def _hear(self) -> None:
        heard, left_out = self.processes.heard.take()
        for one in heard:
            if isinstance(one, LogLine):
                self.view.said(one)
            else:
                self.view.printed(one)
        if left_out:
            self.view.note(f"{left_out} lines of the workers were left out: they came faster than they can be shown")

    def _show(self) -> None:
        status, now = self.last, time.monotonic()
        if status is None:
            return
        facts = Facts(
            status,
            self._waiting,
            workers=len(self.processes.at_work()),
            suspended=self.job.spec.suspend,
            none_asked=self.job.spec.scaling.mode == "External" and self.job.spec.replicas == 0,
            pool_away=self.link.away,
            lock_away=self.processes.lock_away,
            draining=None if self._drain_end is None else len(self.processes.members),
            drain_seconds=max(0.0, (self._drain_end or now) - now),
        )
        rate = self._meter.rate(now, status.total_done)
        eta_seconds = status.pending / rate if rate and status.pending else None
        self.view.progress(Progress(status, facts.workers, rate, eta_seconds, waits(facts)))
