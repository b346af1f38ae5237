"""What flows between the pool and the runtime: Lease → Settlement.

A settlement holds a lease, so that nothing ends without one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, NamedTuple


class Lease(NamedTuple):
    """The right of one worker to one resource, and the units handed out under it, in order.

    `more`: units beyond these were ready. `suspect`: workers died with this resource; run it alone.
    `payloads` are JSON texts, as they were enqueued. `oldest`, `newest`: since when the units wait that could be
    claimed first and last, by the clock of who claimed. `traceparents`: of each unit the W3C Trace Context that it was
    put in with; () where none has one. A tuple, since thousands are made a second.
    """

    resource: str
    fence: int
    suspect: bool
    more: bool
    ids: tuple[int, ...]
    attempts: tuple[int, ...]
    crashes: tuple[int, ...]
    payloads: tuple[str, ...]
    worker_id: int = 0
    oldest: float = 0.0
    newest: float = 0.0
    traceparents: tuple[str | None, ...] = ()

    @property
    def size_bytes(self) -> int:
        """About what its payloads take in memory."""
        return sum(map(len, self.payloads))

    def since(self, place: int) -> float:
        """Return since when the unit at this place waits: those between the oldest and the newest came evenly."""
        return self.oldest + place * (self.newest - self.oldest) / max(1, len(self.ids) - 1)


class Then(StrEnum):
    """What follows for a leased resource when its units are settled."""

    KEEP = "keep"
    IDLE = "idle"
    READY = "ready"
    SUSPECT = "suspect"
    WAIT = "wait"


class Fate(StrEnum):
    """Where a unit goes that was tried and not done."""

    READY = "ready"
    DELAYED = "delayed"
    HELD = "held"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Failure:
    """A unit that was tried and not done; `after_seconds` counts for DELAYED alone. `trace`: a traceback, or "".

    `kind`: of failures that count for the circuit breaker, what they have in common that are alike; "": it does not.
    `again`: it failed in the same call as the one before, which is one try.
    """

    unit_id: int
    to: Fate
    attempts: int
    crashes: int
    reason: str
    after_seconds: float = 0.0
    trace: str = ""
    kind: str = ""
    again: bool = False

    def as_row(self) -> dict[str, Any]:
        """Return the object that settle() in SQL takes."""
        return {
            "id": self.unit_id,
            "to": self.to.value,
            "attempts": self.attempts,
            "crashes": self.crashes,
            "after": self.after_seconds,
            "reason": self.reason,
            "trace": self.trace or None,
            "kind": self.kind or None,
            "again": self.again,
        }


class Settlement(NamedTuple):
    """What became of a lease. `wait_seconds` counts for WAIT alone; infinity: until a person releases a held unit."""

    lease: Lease
    then: Then
    done: tuple[int, ...] = ()
    failed: tuple[Failure, ...] = ()
    wait_seconds: float | None = None


@dataclass(slots=True)
class Tally:
    """What a worker counts between two batches. `recorded`: units whose handler committed their completion itself."""

    recorded: int = 0
    claimed: int = 0
    lock_tries: int = 0
    lock_refusals: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """Settlements that are recorded together, each of another lease. Under one `number` they count once."""

    worker_id: int
    number: int
    ended: tuple[Settlement, ...]
    tally: Tally


class Spared(NamedTuple):
    """What the circuit breaker made of a try that failed, in place of what its worker had decided; see Failure."""

    to: Fate
    attempts: int
    after_seconds: float


class Recorded(NamedTuple):
    """What the pool made of a batch: of `refused` resources nothing, since their leases had been lost.

    `spared`: by unit, the failures of which the job's circuit breaker made something else.
    """

    refused: Sequence[str]
    spared: Mapping[int, Spared]

    def of(self, failure: Failure) -> Failure:
        """Return a failure of the batch as it was recorded."""
        spared = self.spared.get(failure.unit_id)
        return failure if spared is None else replace(failure, **spared._asdict())


class News(NamedTuple):
    """How many units waited and ran how long, by the buckets of stripedjob.times, since it was said last."""

    waits: list[int]
    wait_seconds: float
    runs: list[int]
    run_seconds: float


@dataclass(frozen=True, slots=True)
class JobSettings:
    """What the database judges a job by; `schedule_limit` as in force, 0 when suspended.

    `delegated`: resources reach workers through a delegator alone. The next four are its throttle, where it has one:
    most resources out at a time, most starts in a period of so many seconds, the payload's key that names the area.
    `deduplicate_content`: units without a deduplication id get one made of their resource and payload.
    `breaker_failures`: after so many tries that failed alike, nothing is claimed for the backoff; 0: never.
    `history_seconds`: for how long what happened is kept; 0: nothing is.
    """

    namespace: str
    job_type: str
    generation: int = 0
    schedule_limit: int = 1
    importance: int = 0
    lease_seconds: float = 30.0
    crash_threshold: int = 5
    on_failure: str = "Skip"
    completed_seconds: int = 0
    dead_seconds: int = 604_800
    delegated: bool = False
    outstanding_max: int | None = None
    starts_max: int | None = None
    period_seconds: int | None = None
    area_label: str | None = None
    deduplicate_content: bool = False
    breaker_failures: int = 0
    backoff_seconds: float = 5.0
    backoff_seconds_max: float = 600.0
    history_seconds: int = 0

    def as_values(self) -> list[Any]:
        """Return the arguments of apply_job() in SQL, which are the fields in their order."""
        return [getattr(self, field.name) for field in fields(self)]


@dataclass(frozen=True, slots=True)
class Poll:
    """What an idle worker hears: claim now, or sleep so long."""

    claimable: bool
    sleep_seconds: float


@dataclass(frozen=True, slots=True)
class Delegation:
    """What a delegator hears: whether its term goes on, how many resources it assigned, how long it may sleep."""

    leading: bool
    assigned: int
    wait_seconds: float


@dataclass(frozen=True, slots=True)
class Database:
    """Where a transactional handler's transactions go; `session_name` is what Postgres shows of the sessions.

    `idle_seconds_max`: how long one may have nothing to do; no call of a handler takes longer.
    """

    url: str = field(repr=False)
    schema: str
    job_id: int
    session_name: str = "stripedjob"
    idle_seconds_max: float = 300.0
