"""The connection that a slot of the executor has for its handler, plain or asynchronous, and what is said on it.

transaction.py and shared.py use it. Methods are steps (steps.py), but for those that say otherwise.
"""

from __future__ import annotations

import asyncio
import time
from operator import methodcaller
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from stripedjob.pool.connection import (
    connect_async_for_handler,
    connect_for_handler,
    handler_settings,
    pooled_handler_settings,
)
from stripedjob.pool.errors import TryLostError
from stripedjob.pool.names import in_query
from stripedjob.pool.pooled import STANDBY_WORDS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stripedjob.pool.effects.steps import Steps
    from stripedjob.pool.types import Database
    from stripedjob.unit import Unit

CONFLICTS = {"40001", "40P01", "55P03"}  # serialization failure, deadlock, lock timeout
STANDBY = "in_hot_standby"  # what Postgres tells without being asked
STATE = ("row_factory", "cursor_factory", "server_cursor_factory", "prepare_threshold")  # of psycopg's connection
CHECK = "set constraints all immediate"  # first, since it may depend on the settings
RESET_SETTINGS = "reset session authorization; reset role; reset all"  # which takes no snapshot
RESET = f"close all; discard temp; {RESET_SETTINGS}"


class LeaseLostError(Exception):
    """The lease was lost while the handler ran; its transaction was rolled back."""


class TransactionEndedError(Exception):
    """The handler ended its transaction, or lost its connection and went on; it must leave both as they are."""


class _Kind(NamedTuple):
    """What differs between plain and asynchronous connections."""

    connect: Callable[[str, str], Any]
    cursor: Callable[..., Any]
    sleep: Callable[[float], Any]
    enter: Callable[[Any], Any]
    leave: Callable[..., Any]


PLAIN = _Kind(
    connect_for_handler,
    psycopg.ClientCursor,
    time.sleep,
    methodcaller("__enter__"),
    lambda transaction, *error: transaction.__exit__(*error),
)
ASYNC = _Kind(
    connect_async_for_handler,
    psycopg.AsyncClientCursor,
    asyncio.sleep,
    methodcaller("__aenter__"),
    lambda transaction, *error: transaction.__aexit__(*error),
)


class HandlerSession:
    """One connection, made when it is first needed and again when it was lost."""

    def __init__(self, function: Callable[[Any, Any], Any], database: Database, *, is_async: bool) -> None:
        """Take the handler, which is a coroutine function where `is_async`, and where its job is."""
        self._function, self._database, self._kind = function, database, ASYNC if is_async else PLAIN
        self.conn: Any = None  # a psycopg.Connection or psycopg.AsyncConnection
        self._cursor: Any = None  # which no handler sees
        self._settings = handler_settings(database.session_name).as_string()
        self._pooled_settings = pooled_handler_settings(database.idle_seconds_max).as_string()
        complete = sql.SQL("select {}.complete(%s, %s, %s, %s, %s::bigint[])")
        self.complete = complete.format(in_query(database.schema)).as_string()

    def connect(self) -> Steps[bool]:
        """See to it that there is a connection; returns whether it was there before. Raises PoolError."""
        if self.conn is not None and not self.conn.closed:
            return True
        self.conn = yield self._kind.connect(self._database.url, self._database.session_name)
        self._cursor = self._kind.cursor(self.conn, row_factory=tuple_row)
        return False

    def begin(self) -> Steps[Any]:
        """Begin a transaction; returns what `end` takes. In it, psycopg refuses a commit() of the handler's."""
        transaction = self.conn.transaction()
        try:
            yield self._kind.enter(transaction)
        except psycopg.errors.FeatureNotSupported as error:  # of `read write`, through a pooler
            raise TryLostError(STANDBY_WORDS) from error
        if self.conn.is_pooled:
            yield from self.execute(f"{RESET_SETTINGS}; {self._pooled_settings}")  # others have left theirs behind
        return transaction

    def end(self, transaction: Any, error: BaseException | None = None) -> Steps[None]:
        """Commit, or with an error roll back."""
        yield self._kind.leave(transaction, None if error is None else type(error), error, None)

    def execute(self, query: str, values: Sequence[Any] | None = None) -> Steps[Any]:
        """Send statements together, in one round trip; returns the cursor, at the first result."""
        return (yield self._cursor.execute(query, values))

    def handle(self, work: Unit | list[Unit]) -> Steps[None]:
        """Call the handler; it gets the connection as it was made, and has to leave its transaction open."""
        state = {name: getattr(self.conn, name) for name in STATE}
        try:
            yield self._function(work, self.conn)
        finally:
            for name, value in state.items():
                setattr(self.conn, name, value)
        if self.conn.closed or self.status is TransactionStatus.IDLE:
            raise TransactionEndedError(TransactionEndedError.__doc__)

    def sleep(self, seconds: float) -> Steps[None]:
        """Wait."""
        yield self._kind.sleep(seconds)

    def close(self) -> Steps[None]:
        """Close the connection."""
        if self.conn is not None:
            yield self.conn.close()

    def close_unless_idle(self) -> Steps[None]:
        """Close a connection that is still in a transaction, which ends it."""
        if self.status is not TransactionStatus.IDLE:
            yield from self.close()

    @property
    def reset(self) -> str:
        """The statements that undo what was done to the session."""
        return f"{RESET}; {self._pooled_settings if self.conn.is_pooled else self._settings}"

    @property
    def status(self) -> TransactionStatus:
        """Of the transaction; UNKNOWN without a connection."""
        return self.conn.info.transaction_status if self.conn is not None else TransactionStatus.UNKNOWN

    def is_standby(self) -> bool:
        """Whether nothing can be written there."""
        return bool(self.conn.info.parameter_status(STANDBY) == "on")

    def completing(self, units: Sequence[Unit]) -> list[Any]:
        """Return the values of `complete`, for units of one lease."""
        return [self._database.job_id, units[0].worker_id, units[0].resource, units[0].fence, [one.id for one in units]]


def first_row(cursor: Any) -> list[str]:
    """Return the row that a result has, as Postgres writes it; "" for null."""
    result = cursor.pgresult
    return [(result.get_value(0, column) or b"").decode() for column in range(result.nfields)]


def check_completed(cursor: Any) -> None:
    """Look at the last result, the completion's; raises LeaseLostError where it says that the lease was lost."""
    while cursor.nextset():
        pass
    if first_row(cursor) != ["t"]:
        raise LeaseLostError(LeaseLostError.__doc__)


def sqlstate_of(error: BaseException) -> str:
    """Return the SQLSTATE of psycopg's errors, "" of any other; an exception of the user's may lie about its class."""
    return (error.sqlstate or "") if issubclass(type(error), psycopg.Error) else ""  # type: ignore[attr-defined]
