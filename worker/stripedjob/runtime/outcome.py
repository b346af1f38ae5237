"""How the tries of a lease's units ended, as an executor says it to the process that holds the lease."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Verdict(StrEnum):
    """How the try of a unit ended, where it was not done."""

    RETRY = "retry"
    HOLD = "hold"
    DEAD = "dead"
    CRASH = "crash"


@dataclass(frozen=True, slots=True)
class Fault:
    """One unit that was tried and not done. `index`: its place in the lease; `after_seconds`: as a retry asked.

    `trace`: where the error came from, the user's code first; "" where nobody needs to know.
    """

    index: int
    verdict: Verdict
    reason: str
    after_seconds: float | None = None
    trace: str = ""


QUICK_SECONDS = 0.001  # a call that takes no longer is not measured by itself


class LongCall(NamedTuple):
    """A call of the handler that was not quick: `place` of its first unit in the lease, and how many `units` it covers.

    `began`: when, by clock.py; `seconds`: how long it took.
    """

    place: int
    units: int
    began: float
    seconds: float


class Outcome(NamedTuple):
    """What an executor says of a lease: the units at [first, tried) were tried, all but `faults` are done.

    A lease has one final outcome, and others before it where it takes long. Units from the final `tried` on were not
    started and go back as they were, but for a fault of the one that the executor died with. `seconds`: of the tries,
    which ended `at` this time of clock.py; `calls`: those of them that were not quick, and what the executor died with.
    `recorded`: of the tried, so many were committed as done by the handler's own transaction. `suspect`: the executor
    died with this and other leases, and nobody can say whose fault it was. `away`: why the lease ended with what was no
    try of its unit, since the pool could not be reached; "": it did not.
    """

    key: int
    first: int
    tried: int
    faults: tuple[Fault, ...]
    final: bool
    seconds: float = 0.0
    recorded: int = 0
    suspect: bool = False
    away: str = ""
    at: float = 0.0
    calls: tuple[LongCall, ...] = ()
