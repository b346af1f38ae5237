"""What a handler gets and what it may say back. Users' handlers import it, so it needs the standard library alone."""

import json
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

TRY_SECONDS_MAX = 86_400.0  # how long one try may take with all its extensions: as long as timeoutSeconds may be


@dataclass(frozen=True)
class Unit:
    """One unit of work, as its handler gets it.

    `attempt` counts from 1. (`resource`, `fence`, `id`) is the idempotency key for effects outside of the pool's
    database; a store that remembers the greatest fence of a resource can refuse a late writer.
    """

    id: int
    resource: str
    fence: int
    attempt: int
    payload_text: str
    _extend: "Callable[[Unit, float], None] | None" = field(default=None, repr=False, compare=False)
    _worker_id: int = field(default=0, repr=False, compare=False)

    @cached_property
    def payload(self) -> Any:
        """The JSON payload, parsed when first asked for."""
        return json.loads(self.payload_text)

    def extend(self, seconds: float) -> None:
        """Let this try go on for so many seconds from now, where less is left; after that it is stopped.

        Where the handler gets all units of a resource, one's extension is that of the whole call. Any thread or task of
        the handler may call it. Raises ValueError for a time that is not above 0, or would end more than a day after
        the start; RuntimeError where the unit's own handler is not at work on it at this moment.
        """
        if self._extend is None:
            raise RuntimeError("extend() works while the unit's own handler runs, in its process; this is not there")
        self._extend(self, seconds)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is of this process alone: a copy elsewhere cannot extend."""
        return {name: value for name, value in self.__dict__.items() if name != "_extend"} | {"_extend": None}


class Retry(Exception):  # noqa: N818 - handlers raise it as a verb
    """Try this unit again after so many seconds; without them, after the job's backoff."""

    def __init__(self, message: str = "the handler asked for a retry", *, after: float | None = None) -> None:
        """Take the reason and, if the handler knows better than the backoff, the seconds to wait (>= 0)."""
        super().__init__(message)
        self.after_seconds = after


class Hold(Exception):  # noqa: N818 - handlers raise it as a verb
    """Set this unit aside until a person releases it."""


class Dead(Exception):  # noqa: N818 - handlers raise it as a verb
    """Give this unit up: it can never be done."""


class Verdict(StrEnum):
    """How the try of a unit ended, where it was not done."""

    RETRY = "retry"
    HOLD = "hold"
    DEAD = "dead"
    CRASH = "crash"


@dataclass(frozen=True, slots=True)
class Fault:
    """One unit that was tried and not done. `index`: its place in the lease; `after_seconds`: as a retry asked."""

    index: int
    verdict: Verdict
    reason: str
    after_seconds: float | None = None


class Outcome(NamedTuple):
    """What an executor says of a lease: the units at [first, tried) were tried, all but `faults` are done.

    A lease has one final outcome, and others before it where it takes long. Units from the final `tried` on were not
    started and go back as they were, but for a fault of the one that the executor died with. `seconds`: of the tries.
    `recorded`: of the tried, so many were committed as done by the handler's own transaction. `suspect`: the executor
    died with this and other leases, and nobody can say whose fault it was.
    """

    key: int
    first: int
    tried: int
    faults: tuple[Fault, ...]
    final: bool
    seconds: float = 0.0
    recorded: int = 0
    suspect: bool = False


def fault_of(index: int, error: BaseException) -> Fault:
    """Turn what a handler raised into a verdict."""
    try:
        words = str(error)
    except Exception:  # noqa: BLE001 - the user's own class
        words = ""
    reason = f"{type(error).__name__}: {words}" if words else type(error).__name__
    match error:
        case Retry():
            return Fault(index, Verdict.RETRY, words, error.after_seconds)
        case Hold():
            return Fault(index, Verdict.HOLD, words or "the handler held it")
        case Dead():
            return Fault(index, Verdict.DEAD, words or "the handler gave it up")
        case _:
            return Fault(index, Verdict.RETRY, reason)
