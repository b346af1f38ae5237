"""For handlers with `transaction: true`: their effect and the completion of their units commit together.

The executor calls `alone` with a unit, or with a resource's units, whose handler has the transaction for itself; in
shared.py it shares one. The handler gets the connection as its second argument, in the transaction; it must not end
that, and what it sets in the session lasts until it returns. Where it raises, or the lease was lost meanwhile,
everything is rolled back.

What fails on the way to the handler and back is no try of the units: see _Try.
"""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
from psycopg.pq import TransactionStatus

from stripedjob.pool.effects.handler_session import CHECK, CONFLICTS, HandlerSession, check_completed, sqlstate_of
from stripedjob.pool.errors import PoolError, PoolUnreachableError, TryLostError, class_of
from stripedjob.pool.pooled import STANDBY_WORDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stripedjob.pool.effects.steps import Steps
    from stripedjob.unit import Unit

CONFLICTS_MAX = 5  # times in a row that a unit's transaction is run again without that being a try
CONFLICT_SECONDS = 0.02  # at most before the first repetition; doubled each time
# The server ended the session: it shuts down, or another session made it crash; or a pooler says that it is gone. Or
# nobody said anything: the network failed, or the last words did not arrive.
ENDED = {"57P01", "57P02", "08P01", ""}


def alone(session: HandlerSession, work: Unit | list[Unit]) -> Steps[None]:
    """Call the handler in a transaction that also completes its units.

    Raises what the handler raised, LeaseLostError, or TryLostError where it was no try of theirs.
    """
    conflicts = 0
    while True:
        try:
            return (yield from _alone(session, work))
        except _AgainError as again:
            conflicts += 1
            if conflicts > CONFLICTS_MAX:
                raise again.error from None
            yield from session.sleep(_pause_seconds(conflicts))


def _alone(session: HandlerSession, work: Unit | list[Unit]) -> Steps[None]:
    with _connecting():
        is_used = yield from session.connect()
    this = _Try(session, is_used=is_used)
    query = f"{CHECK}; {session.reset}; {session.complete}"
    try:
        with this.judged():
            transaction = yield from session.begin()
            try:
                with this.called():
                    yield from session.handle(work)
                units = work if isinstance(work, list) else [work]
                check_completed((yield from session.execute(query, session.completing(units))))
            except BaseException:
                yield from session.end(transaction, _UndoneError())
                raise
            yield from session.end(transaction)
    finally:
        yield from session.close_unless_idle()


class _AgainError(Exception):
    """The transaction is to be run again, which is no try of its units."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


class _UndoneError(Exception):
    """Rolls a transaction back; what the handler raised is not for psycopg to look at, or to swallow."""


class _Try:
    """One run of the transaction. What its failure means depends on how far it came.

    Before the handler was called, it is nobody's try: with a new connection it is begun again, then the units go back.
    What the handler raises is its own, but for conflicts with other transactions, and the server's going away. After it
    has returned, a connection that is lost leaves open whether the units were recorded: they go back too, and the
    database judges.
    """

    def __init__(self, session: HandlerSession, *, is_used: bool) -> None:
        self._session, self._is_used = session, is_used
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
        """Around the handler."""
        if self._session.is_standby():
            raise TryLostError(STANDBY_WORDS)
        self._is_called = True
        try:
            yield
        except BaseException:
            self._failed_here = self._session.status is TransactionStatus.INERROR
            raise
        self._has_returned = True

    def _meaning(self, error: BaseException) -> BaseException:
        sqlstate, is_psycopgs = sqlstate_of(error), issubclass(type(error), psycopg.Error)
        if not self._is_called:
            if is_psycopgs and self._is_used:
                return _AgainError(error)
            return lost(error) if is_psycopgs else error
        if sqlstate in CONFLICTS and (self._failed_here or self._has_returned):
            return _AgainError(error)
        if not self._has_returned:
            is_end = sqlstate in ENDED and issubclass(type(error), psycopg.OperationalError)
            return _AgainError(error) if is_end and self._session.conn.broken else error
        return lost(error) if self._is_lost(error) else error

    def _is_lost(self, error: BaseException) -> bool:
        kind, sqlstate = type(error), sqlstate_of(error)
        if issubclass(kind, psycopg.InternalError) and not sqlstate:
            return True  # psycopg's own: a pooler said more than the one end of a COMMIT, since a session was ended
        closed = self._session.conn.closed or issubclass(class_of(sqlstate), PoolUnreachableError)
        return closed and issubclass(kind, psycopg.OperationalError)


def lost(error: BaseException) -> TryLostError:
    """Say that a failure of the connection was no try."""
    return TryLostError(f"the connection to Postgres was lost: {' '.join(str(error).split())}")


@contextmanager
def _connecting() -> Iterator[None]:
    try:
        yield
    except PoolError as error:
        raise TryLostError(str(error)) from error


def _pause_seconds(conflicts: int) -> float:
    return random.uniform(0, CONFLICT_SECONDS * 2.0**conflicts)  # noqa: S311 - so that both sides part
