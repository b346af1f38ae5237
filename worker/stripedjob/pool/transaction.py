"""For handlers with `transaction: true`: their effect and the completion of their units commit together.

The executor calls `Transactional` with a unit, or with a resource's units. The handler gets the connection as its
second argument, in a transaction; it must not end that, and what it sets in the session lasts until the commit. Where
it raises, or the lease was lost meanwhile, everything is rolled back.

What fails on the way to the handler and back is no try of the units: see _Try.
"""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from stripedjob.pool.connection import connect_async_for_handler, connect_for_handler, handler_settings
from stripedjob.pool.errors import PoolError, PoolUnreachableError, TryLostError, class_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from stripedjob.runtime.handlers import Database
    from stripedjob.runtime.work import Unit

CONFLICTS_MAX = 5  # times in a row that a unit's transaction is run again without that being a try
CONFLICT_SECONDS = 0.02  # at most before the first repetition; doubled each time
CONFLICTS = {"40001", "40P01", "55P03"}  # serialization failure, deadlock, lock timeout
ENDED = {"57P01", "57P02"}  # the server ended the session: it shuts down, or another session made it crash
STANDBY = "in_hot_standby"  # what Postgres tells without being asked
STATE = ("row_factory", "cursor_factory", "server_cursor_factory", "prepare_threshold")  # of psycopg's connection


class LeaseLostError(Exception):
    """The lease was lost while the handler ran; its transaction was rolled back."""


class TransactionEndedError(Exception):
    """The handler ended its transaction, or lost its connection and went on; it must leave both as they are."""


class Transactional:
    """A handler that takes units and a psycopg.Connection. One for each slot, since it owns its connection."""

    def __init__(self, function: Callable[[Any, psycopg.Connection], Any], database: Database) -> None:
        """Take the handler, and where its job is; the connection is made when it is first needed."""
        self._function, self._database, self._complete = function, database, _Completion(database)
        self._conn: psycopg.Connection | None = None

    def __call__(self, work: Unit | list[Unit]) -> None:
        """Run the handler in a transaction that also completes its units. Raises TryLostError where it was no try."""
        conflicts = 0
        while True:
            try:
                return self._run(work)
            except _AgainError as again:
                conflicts += 1
                if conflicts > CONFLICTS_MAX:
                    raise again.error from None
                time.sleep(_pause_seconds(conflicts))

    def close(self) -> None:
        """Close the connection."""
        if self._conn is not None:
            self._conn.close()

    def _run(self, work: Unit | list[Unit]) -> None:
        conn, is_used = self._conn, True
        if conn is None or conn.closed:
            with _connecting():
                self._conn = conn = connect_for_handler(self._database.url, self._database.session_name)
            is_used = False
        this = _Try(conn, is_used=is_used)
        try:
            with this.judged(), conn.transaction():
                with this.called():
                    self._function(work, conn)
                with psycopg.ClientCursor(conn, row_factory=tuple_row) as cursor:
                    cursor.execute(self._complete.query, self._complete.values(work))
                    _check(cursor)
        finally:
            if conn.info.transaction_status is not TransactionStatus.IDLE:
                conn.close()


class AsyncTransactional:
    """The same for a coroutine function, with a psycopg.AsyncConnection."""

    def __init__(self, function: Callable[[Any, psycopg.AsyncConnection], Awaitable[Any]], database: Database) -> None:
        """Take the handler, and where its job is; the connection is made when it is first needed."""
        self._function, self._database, self._complete = function, database, _Completion(database)
        self._conn: psycopg.AsyncConnection | None = None

    async def __call__(self, work: Unit | list[Unit]) -> None:
        """Run the handler as Transactional does."""
        conflicts = 0
        while True:
            try:
                return await self._run(work)
            except _AgainError as again:
                conflicts += 1
                if conflicts > CONFLICTS_MAX:
                    raise again.error from None
                await asyncio.sleep(_pause_seconds(conflicts))

    async def aclose(self) -> None:
        """Close the connection."""
        if self._conn is not None:
            await self._conn.close()

    async def _run(self, work: Unit | list[Unit]) -> None:
        conn, is_used = self._conn, True
        if conn is None or conn.closed:
            with _connecting():
                self._conn = conn = await connect_async_for_handler(self._database.url, self._database.session_name)
            is_used = False
        this = _Try(conn, is_used=is_used)
        try:
            with this.judged():
                async with conn.transaction():
                    with this.called():
                        await self._function(work, conn)
                    async with psycopg.AsyncClientCursor(conn, row_factory=tuple_row) as cursor:
                        await cursor.execute(self._complete.query, self._complete.values(work))
                        _check(cursor)
        finally:
            if conn.info.transaction_status is not TransactionStatus.IDLE:
                await conn.close()


class _AgainError(Exception):
    """The transaction is to be run again, which is no try of its units."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


class _Try:
    """One run of the transaction. What its failure means depends on how far it came.

    Before the handler was called, it is nobody's try: with a new connection it is begun again, then the units go back.
    What the handler raises is its own, but for conflicts with other transactions, and the server's going away. After it
    has returned, a connection that is lost leaves open whether the units were recorded: they go back too, and the
    database judges.
    """

    def __init__(self, conn: psycopg.Connection | psycopg.AsyncConnection, *, is_used: bool) -> None:
        self._conn, self._is_used = conn, is_used
        self._is_called = self._has_returned = self._failed_here = False

    @contextmanager
    def judged(self) -> Iterator[None]:
        """Around the whole transaction: raises what its failure means."""
        try:
            yield
        except BaseException as error:
            meaning = self._meaning(error)
            if meaning is error:
                raise
            raise meaning from error

    @contextmanager
    def called(self) -> Iterator[None]:
        """Around the handler: it gets the connection as it was made, and has to leave its transaction open."""
        if self._conn.info.parameter_status(STANDBY) == "on":
            raise TryLostError("Postgres is a stand-by, and read-only")
        state = {name: getattr(self._conn, name) for name in STATE}
        self._is_called = True
        try:
            yield
        except BaseException:
            self._failed_here = self._conn.info.transaction_status is TransactionStatus.INERROR
            raise
        finally:
            for name, value in state.items():
                setattr(self._conn, name, value)
        if self._conn.closed or self._conn.info.transaction_status is TransactionStatus.IDLE:
            raise TransactionEndedError(TransactionEndedError.__doc__)
        self._has_returned = True

    def _meaning(self, error: BaseException) -> BaseException:
        sqlstate = (error.sqlstate or "") if isinstance(error, psycopg.Error) else ""
        if not self._is_called:
            if isinstance(error, psycopg.Error) and self._is_used:
                return _AgainError(error)
            return _lost(error) if isinstance(error, psycopg.Error) else error
        if sqlstate in CONFLICTS and (self._failed_here or self._has_returned):
            return _AgainError(error)
        if sqlstate in ENDED and self._conn.broken and not self._has_returned:
            return _AgainError(error)
        is_lost = isinstance(error, psycopg.OperationalError) and (
            self._conn.closed or issubclass(class_of(sqlstate), PoolUnreachableError)
        )
        return _lost(error) if self._has_returned and is_lost else error


class _Completion:
    """The statements that record units as done, if their lease still holds, and undo what the handler has set.

    One round trip, of a cursor that sends them together. What is deferred to the end of the transaction comes first,
    since it may depend on the settings.
    """

    def __init__(self, database: Database) -> None:
        self.query = sql.SQL(
            "set constraints all immediate; reset session authorization; reset role; reset all; {};"
            " select {}.complete(%s, %s, %s, %s, %s::bigint[])"
        ).format(handler_settings(), sql.Identifier(database.schema))
        self._job_id = database.job_id

    def values(self, work: Unit | list[Unit]) -> list[Any]:
        units = work if isinstance(work, list) else [work]
        return [self._job_id, units[0].worker_id, units[0].resource, units[0].fence, [unit.id for unit in units]]


def _check(cursor: psycopg.ClientCursor[Any] | psycopg.AsyncClientCursor[Any]) -> None:
    """Look at the last result, the completion's; raises LeaseLostError where it says that the lease was lost."""
    while cursor.nextset():
        pass
    result = cursor.pgresult
    if result is None or result.get_value(0, 0) != b"t":
        raise LeaseLostError(LeaseLostError.__doc__)


@contextmanager
def _connecting() -> Iterator[None]:
    try:
        yield
    except PoolError as error:
        raise TryLostError(str(error)) from error


def _lost(error: BaseException) -> TryLostError:
    return TryLostError(f"the connection to Postgres was lost: {' '.join(str(error).split())}")


def _pause_seconds(conflicts: int) -> float:
    return random.uniform(0, CONFLICT_SECONDS * 2.0**conflicts)  # noqa: S311 - so that both sides part
