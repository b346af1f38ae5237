"""Pure: how far a run is, how fast it goes, and what it waits for. The supervisor asks, a view shows it."""

from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from stripedjob.local.output import LogLine, Printed
from stripedjob.pool.client.viewer import JobStatus, Waiting, breaker, paused

RATE_SECONDS, RATE_SECONDS_MAX = 5.0, 60.0  # over which the rate is measured; over more where little ends
RATE_UNITS_MIN = 10


@dataclass(frozen=True, slots=True)
class Wait:
    """Something that is waited for. `seconds`: until it is over, None where nobody knows."""

    words: str
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """What a view shows. `rate` in units a second; `eta_seconds` None where it cannot be said."""

    status: JobStatus
    workers: int
    rate: float
    eta_seconds: float | None
    waits: tuple[Wait, ...] = ()


class View(Protocol):
    """Where progress goes."""

    def said(self, said: LogLine) -> None:
        """Show a record of a worker's log."""

    def printed(self, printed: Printed) -> None:
        """Show a line that a worker's handler has printed."""

    def progress(self, progress: Progress) -> None:
        """Show how far it is."""

    def note(self, words: str) -> None:
        """Show what the supervisor does."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known at one moment. `workers` are processes that are there, those that end not counted.

    `pool_away`, `lock_away`: why a server does not answer, or "". `draining`: processes that end, for `drain_seconds`
    more at most; None: nobody has told the run to end.
    """

    status: JobStatus
    waiting: Waiting
    workers: int
    suspended: bool = False
    none_asked: bool = False
    pool_away: str = ""
    lock_away: str = ""
    draining: int | None = None
    drain_seconds: float = 0.0


def waits(facts: Facts) -> tuple[Wait, ...]:
    """Say what keeps the run from going on, or from ending; () where it works."""
    if facts.draining is not None:
        busy = _workers(facts.draining)
        return (Wait(f"draining: {busy} still at work; Ctrl-C again ends at once", facts.drain_seconds),)
    if facts.pool_away:
        return (Wait(f"Postgres is away: {facts.pool_away}"),)
    if facts.lock_away:
        return (Wait(f"the lock backend is away: {facts.lock_away}"),)
    status = facts.status
    idle = not (status.leased_resources or status.in_flight)
    todo = status.pending > 0
    if kept_back := _kept_back(facts):
        return kept_back
    if idle and todo and facts.workers and not status.workers:
        return (Wait(f"{_workers(facts.workers)} starting"),)
    return _delayed(facts) if idle and not status.ready_resources else ()


def _kept_back(facts: Facts) -> tuple[Wait, ...]:
    status = facts.status
    if status.pending and (reason := _not_allowed(facts)):
        return (Wait(reason),)
    if (status.pending or status.delayed) and (reason := breaker(status)):
        return (Wait(reason, max(0.0, status.breaker_seconds or 0.0) or None),)
    return ()


def _not_allowed(facts: Facts) -> str:
    if facts.suspended:
        return "the job is suspended: nothing is claimed"
    if facts.status.paused_by is not None:
        return f"the job is {paused(facts.status)}; `stripedjob resume` lets it go on"
    if facts.status.schedule_limit == 0:
        return "scheduleLimit is 0: nothing is claimed"
    return "--workers is 0: others have to do the work" if facts.none_asked and not facts.status.workers else ""


def _delayed(facts: Facts) -> tuple[Wait, ...]:
    status, waiting = facts.status, facts.waiting
    found = []
    if waiting.resource is not None:
        found.append(Wait(_why_waiting(waiting), waiting.resource_seconds))
    if status.delayed and waiting.unit is not None:
        kind = "a retry" if waiting.unit_reason else "its time"
        never = "" if waiting.unit_seconds is not None else ", which is never"
        words = f"unit {waiting.unit} of {waiting.unit_resource} waits for {kind}{never}"
        found.append(Wait(words, waiting.unit_seconds))
    if waiting.for_person:
        many = waiting.for_person != 1
        found.append(
            Wait(
                f"{waiting.for_person:,} resource{'s wait' if many else ' waits'} for a person: a held unit, or a pause"
            )
        )
    return tuple(found) or (() if status.pending else (Wait("nothing to do"),))


def _why_waiting(waiting: Waiting) -> str:
    if waiting.barrier is not None:
        return f"{waiting.resource} waits for its unit {waiting.barrier}"
    if waiting.resource_reason:
        return f"{waiting.resource} waits for a retry"
    return f"{waiting.resource} waits for its lock, which somebody else has, or for a server that is away"


def _workers(number: int) -> str:
    return "1 worker" if number == 1 else f"{number:,} workers"


@dataclass(slots=True)
class Meter:
    """Measures how fast units are done, from their number at moments of a monotonic clock."""

    _seen: "deque[tuple[float, int]]" = field(default_factory=deque)

    def rate(self, now: float, done: int) -> float:
        """Take a number in; gives units a second over the last seconds, over more of them where few were done.

        Seconds at their beginning in which nothing was done, such as while workers start, do not count.
        """
        self._seen.append((now, done))
        while len(self._seen) > 1 and self._is_old(now, done):
            self._seen.popleft()
        seconds = now - self._seen[0][0]
        return (done - self._seen[0][1]) / seconds if seconds > 0 else 0.0

    def _is_old(self, now: float, done: int) -> bool:
        (_, before), (at, units) = self._seen[0], self._seen[1]
        is_enough = done - units >= RATE_UNITS_MIN
        return now - at >= RATE_SECONDS_MAX or (is_enough and (now - at >= RATE_SECONDS or units == before))


@dataclass(slots=True)
class WorkingTime:
    """The time from when work began to when the last unit was done, as far as looks now and then can tell."""

    _began_at: float | None = None
    _ended_at: float | None = None
    _busy: bool = False
    _done: int = 0

    def saw(self, now: float, *, busy: bool, done: int) -> None:
        """Take a look in: whether anything is or was leased, and the total of units done since the start."""
        if self._began_at is None or not self._busy:
            self._began_at = now if self._began_at is None or not busy else self._began_at
            self._busy = busy
        if done > self._done:
            self._done, self._ended_at = done, now

    @property
    def seconds(self) -> float:
        """Return it; 0 where nothing was done."""
        return 0.0 if self._ended_at is None or self._began_at is None else self._ended_at - self._began_at
