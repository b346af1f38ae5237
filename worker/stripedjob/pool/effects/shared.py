"""One transaction that several calls of a handler share, each in a savepoint, so that they pay one commit.

The executor calls `begin`, `call` for each, and `commit`, or `abandon`. A call that fails is undone alone, and so is
what it did to the session. Whatever else fails is rolled back as a whole, and raises SharedLostError: the calls are
then made again one by one (transaction.py), and there it is judged whose fault it was, if anybody's.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.pq import TransactionStatus

from stripedjob.pool.effects.handler_session import (
    CHECK,
    CONFLICTS,
    LeaseLostError,
    TransactionEndedError,
    check_completed,
    first_row,
    sqlstate_of,
)
from stripedjob.pool.effects.transaction import lost
from stripedjob.pool.errors import PoolError, SharedLostError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stripedjob.pool.effects.handler_session import HandlerSession
    from stripedjob.pool.effects.steps import Steps
    from stripedjob.unit import Unit

# What may be for no other reason than that the transaction is shared: beside conflicts, what a savepoint does not
# allow (SET TRANSACTION), and more locks than the server has room for.
OF_SHARING = CONFLICTS | {"25001", "53200"}
NO_SAVEPOINT = "3B001"
SAVEPOINT = "savepoint stripedjob_unit"

# The transaction's number, and whether constraints or triggers are initially deferred, or may only be deferred.
BEGUN = """select pg_catalog.pg_current_xact_id(), pg_catalog.bool_or(tginitdeferred) is true,
    pg_catalog.bool_or(not tginitdeferred) is true from pg_catalog.pg_trigger where tgdeferrable"""
STATUS = "select pg_catalog.pg_xact_status(%s::xid8)"


class Shared:
    """A shared transaction of a session. Its methods are steps."""

    def __init__(self, session: HandlerSession) -> None:
        """Nothing is begun yet."""
        self._session = session
        self._transaction: Any = None
        self._number = self._between = ""
        self.is_cut = False  # a handler has committed it: what was shared so far is to be completed now

    def begin(self) -> Steps[None]:
        """Begin it. Raises SharedLostError."""
        session = self._session
        with _sharing():
            yield from session.connect()
            self._transaction = yield from session.begin()
            begun = yield from session.execute(f"{BEGUN}; {SAVEPOINT}")
            self._number, are_deferred, are_not = first_row(begun)
            if (are_deferred, are_not) == ("t", "t"):  # CHECK of one call could not be taken back for the next
                raise SharedLostError
            deferred = "set constraints all deferred; " if are_deferred == "t" else ""
            self._between = f"{CHECK}; {deferred}{session.reset}; release {SAVEPOINT}; {SAVEPOINT}"

    def call(self, work: Unit | list[Unit]) -> Steps[BaseException | None]:
        """Call the handler with a unit, or a resource's units; returns what it raised. Raises SharedLostError."""
        session = self._session
        try:
            yield from session.handle(work)
            yield from session.execute(self._between)
        except BaseException as error:  # noqa: BLE001 - whatever the user's code raises is an outcome
            failed = error
        else:
            return None
        is_error = session.status is TransactionStatus.INERROR
        if session.conn.closed or (is_error and sqlstate_of(failed) in OF_SHARING):
            raise SharedLostError from failed
        if session.status is not TransactionStatus.IDLE:
            try:
                yield from session.execute(f"rollback to {SAVEPOINT}")
            except psycopg.Error as error:
                if sqlstate_of(error) != NO_SAVEPOINT:
                    raise SharedLostError from failed
            else:
                return failed
        yield from self._resume()
        return TransactionEndedError(TransactionEndedError.__doc__) if sqlstate_of(failed) == NO_SAVEPOINT else failed

    def commit(self, units: Sequence[Unit]) -> Steps[None]:
        """Complete these units, of one lease, and commit.

        Raises SharedLostError, or TryLostError: nobody knows whether it was committed, and the database judges.
        """
        session = self._session
        with _sharing():
            if units:
                check_completed((yield from session.execute(session.complete, session.completing(units))))
        try:
            yield from self._end()
        except psycopg.Error as error:
            raise (lost(error) if session.conn.closed else SharedLostError()) from error

    def abandon(self) -> Steps[None]:
        """Roll it back, in whatever state it is."""
        with suppress(psycopg.Error):
            yield from self._end(SharedLostError())
        yield from self._session.close_unless_idle()

    def _resume(self) -> Steps[None]:
        """Go on where a handler has ended the transaction: if it was committed, in another, to complete what is in it.

        So that what a handler must not do costs the calls before its own nothing. Raises SharedLostError.
        """
        with _sharing():
            yield from self._end(SharedLostError())
            (status,) = first_row((yield from self._session.execute(STATUS, [self._number])))
        if status != "committed":
            raise SharedLostError
        yield from self.begin()
        self.is_cut = True

    def _end(self, error: BaseException | None = None) -> Steps[None]:
        """Commit it, or with an error roll it back, unless that was done."""
        transaction, self._transaction = self._transaction, None
        if transaction is not None:
            yield from self._session.end(transaction, error)


@contextmanager
def _sharing() -> Iterator[None]:
    """Take what fails in here as the transaction's failure, not a call's."""
    try:
        yield
    except (psycopg.Error, PoolError, LeaseLostError) as error:
        raise SharedLostError from error
