"""What happened, as plain data: what clients asked for, what leases there were, what handlers did, what ended.

All times are seconds of the machine's monotonic clock. reading.py makes a History of what was written down during a
run; checker.py judges it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Outcome(StrEnum):
    """What a client knows of its transaction."""

    OK = "ok"
    FAIL = "fail"
    UNKNOWN = "unknown"  # the answer to its commit was lost


@dataclass(frozen=True, slots=True)
class Enqueued:
    """One unit that a client put in: its transaction began and ended then. A savepoint rolled back: FAIL."""

    unit: int
    resource: str
    began: float
    ended: float
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Effect:
    """A row that a transactional handler committed at that time."""

    unit: int
    resource: str
    fence: int
    at: float


@dataclass(frozen=True, slots=True)
class Recorded:
    """A unit's row was removed: it is done."""

    unit: int
    at: float


@dataclass(frozen=True, slots=True)
class Execution:
    """One call of a handler in process `pid`. `ended` None: it was killed."""

    unit: int
    resource: str
    fence: int
    pid: int
    began: float
    ended: float | None


@dataclass(frozen=True, slots=True)
class Change:
    """A stripe went from one state to another; `before` or `after` is "" where it was made or removed.

    `began`: when the statement that did it began; `at`: when the row was written, which is before the commit.
    """

    resource: str
    before: str
    after: str
    fence_before: int
    fence_after: int
    worker: int
    area: str
    began: float
    at: float


@dataclass(frozen=True, slots=True)
class Pause:
    """A process was stopped (SIGSTOP) from then until then."""

    pid: int
    began: float
    ended: float


@dataclass(frozen=True, slots=True)
class Exit:
    """A process ended though nobody had ended it."""

    who: str
    words: str


@dataclass(frozen=True, slots=True)
class Throttle:
    """The limits of ADR 10, in each area."""

    outstanding_max: int
    rate: int
    period_seconds: float

    @property
    def burst(self) -> int:
        """The most tokens in a bucket."""
        return min(self.outstanding_max, self.rate)


@dataclass(frozen=True, slots=True)
class Promises:
    """What is promised of the job."""

    limit: int
    transactional: bool
    strict_order: bool = False
    throttle: Throttle | None = None


@dataclass(slots=True)
class History:
    """All of one job. `left`: what the pool still held at the end, by name; `total_done`: what the pool counted.

    `stuck`: why resources with work left are not worked on, in the pool's own words.
    """

    promises: Promises
    enqueued: list[Enqueued] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    recorded: list[Recorded] = field(default_factory=list)
    executions: list[Execution] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    pauses: list[Pause] = field(default_factory=list)
    exits: list[Exit] = field(default_factory=list)
    left: dict[str, int] = field(default_factory=dict)
    stuck: list[str] = field(default_factory=list)
    total_done: int = 0


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken: which rule, and by what."""

    rule: str
    what: str
