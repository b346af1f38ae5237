"""What a handler gets and what it may say back. Users' handlers import it, so it needs the standard library alone."""

import datetime as dt
import json
import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import decimal
    from collections.abc import Callable

TRY_SECONDS_MAX = 86_400.0  # how long one try may take with all its extensions: as long as timeoutSeconds may be
RETRY_SECONDS_MAX = 366 * 86_400.0  # a retry that is asked for later comes after a year


@dataclass(frozen=True)
class Unit:
    """One unit of work, as its handler gets it.

    `attempt` counts from 1. (`resource`, `fence`, `id`) is the idempotency key for effects outside of the pool's
    database; a store that remembers the greatest fence of a resource can refuse a late writer. `worker_id`: whose lease
    it is. `traceparent`: the W3C Trace Context that it was put in with, where that was traced.
    """

    id: int
    resource: str
    fence: int
    attempt: int
    payload_text: str
    _extend: "Callable[[Unit, float], None] | None" = field(default=None, repr=False, compare=False)
    worker_id: int = field(default=0, repr=False, compare=False)
    _cancelled: "Callable[[Unit], str] | None" = field(default=None, repr=False, compare=False)
    traceparent: str | None = field(default=None, repr=False, compare=False)

    @property
    def cancelled(self) -> str:
        """Who has cancelled this unit, and why; "" where nobody has. A handler that looks may end in good order.

        Whoever does not is ended some seconds later. A handler that returns is done all the same.
        """
        return "" if self._cancelled is None else self._cancelled(self)

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
        """Leave out what is of this process alone: a copy elsewhere cannot extend, and is told nothing."""
        return self.__dict__ | {"_extend": None, "_cancelled": None}


def delay_seconds(after: Any) -> float:
    """Return a delay in seconds, at most a year; raises ValueError for what is no timedelta or finite number >= 0."""
    seconds = after.total_seconds() if isinstance(after, dt.timedelta) else after
    try:
        is_delay = 0 <= seconds < math.inf  # NaN is not
    except (TypeError, ArithmeticError):  # ArithmeticError: a Decimal that is NaN
        is_delay = False
    if not is_delay:
        raise ValueError(f"a delay is a finite number of seconds >= 0, or a timedelta, and not {after!r}")
    return float(min(seconds, RETRY_SECONDS_MAX))


class Retry(Exception):  # noqa: N818 - handlers raise it as a verb
    """Try this unit again after so many seconds; without them, after the job's backoff."""

    after_seconds: float | None = None

    def __init__(
        self,
        message: str = "the handler asked for a retry",
        *,
        after: "float | decimal.Decimal | dt.timedelta | None" = None,
    ) -> None:
        """Take the reason and, if the handler knows better than the backoff, how long to wait: at most a year.

        Raises ValueError for what is no timedelta or finite number of seconds >= 0.
        """
        super().__init__(message)
        self.after_seconds = None if after is None else delay_seconds(after)


class Hold(Exception):  # noqa: N818 - handlers raise it as a verb
    """Set this unit aside until a person releases it."""


class Dead(Exception):  # noqa: N818 - handlers raise it as a verb
    """Give this unit up: it can never be done."""


def as_json(unit: Unit) -> bytes:
    """Return a unit as commands and endpoints get it: one JSON object."""
    head: dict[str, Any] = {"id": unit.id, "resource": unit.resource, "fence": unit.fence, "attempt": unit.attempt}
    if unit.traceparent:
        head["traceparent"] = unit.traceparent
    return (json.dumps(head, ensure_ascii=False)[:-1] + f', "payload": {unit.payload_text}}}').encode()
