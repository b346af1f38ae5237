"""Connections that may lead through a pooler, where each transaction has another of the server's sessions.

Made by connection.py, for all of the package. Through a pooler nothing lasts longer than a transaction: no setting, no
prepared statement, no LISTEN, no name. So what a call relies on goes with it, in one message and one transaction:
begin, settings, call, commit.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

import psycopg
from psycopg import errors, sql
from psycopg.pq import TransactionStatus
from psycopg.rows import Row, TupleRow

from stripedjob.pool.errors import PoolUnreachableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from psycopg.abc import Params

BEGIN = "begin isolation level read committed read write not deferrable"
STANDBY_WORDS = "Postgres is a stand-by, and read-only"


class Connection(psycopg.Connection[TupleRow]):
    """A connection of ours. `is_pooled`: through a pooler; then `settings` are what each transaction has."""

    is_pooled = False
    settings: Mapping[str, str] = {}

    def go_through_pooler(self, settings: Mapping[str, str]) -> None:
        """Rely on nothing that a session keeps; statements outside of a transaction have one of their own."""
        self.is_pooled, self.settings = True, settings
        self.prepare_threshold = None
        self.isolation_level, self.read_only, self.deferrable = psycopg.IsolationLevel.READ_COMMITTED, False, False

    @classmethod
    def of(cls, conn: AsyncConnection) -> Self:
        """Return the blocking side of an asynchronous connection; both share libpq's, which the other closes."""
        twin = cls(conn.pgconn)
        twin.autocommit = True
        if conn.is_pooled:
            twin.go_through_pooler(conn.settings)
            twin.cursor_factory = WholeCursor
        return twin

    def limit_statements(self, seconds: float) -> None:
        """Have the server end statements that take longer."""
        limit = {"statement_timeout": f"{seconds * 1000:.0f}"}
        if self.is_pooled:
            self.settings = {**self.settings, **limit}
        else:
            self.execute(session_settings(limit))


class AsyncConnection(psycopg.AsyncConnection[TupleRow]):
    """See Connection."""

    is_pooled = False
    settings: Mapping[str, str] = {}

    async def go_through_pooler(self, settings: Mapping[str, str]) -> None:
        """See Connection."""
        self.is_pooled, self.settings = True, settings
        self.prepare_threshold = None
        await self.set_isolation_level(psycopg.IsolationLevel.READ_COMMITTED)
        await self.set_read_only(False)
        await self.set_deferrable(False)


def session_settings(settings: Mapping[str, str], *, local: bool = False) -> sql.Composed:
    """Return the statement that sets these for the session, or for the transaction."""
    calls = [
        sql.SQL("pg_catalog.set_config({}, {}, {})").format(name, value, local) for name, value in settings.items()
    ]
    return sql.SQL("select ") + sql.SQL(", ").join(calls)


def direct_settings(settings: Mapping[str, str], pid: int) -> sql.Composed:
    """Return the statement that sets these for the session and returns a row, if the session is the one of this pid.

    `pid` is what the connection was told at its start, for cancelling. A server says its own; a pooler, that of nobody,
    since at that moment no session belongs to the client: so it finds the session to cancel by itself.
    """
    return session_settings(settings) + sql.SQL(" where pg_catalog.pg_backend_pid() = {}").format(pid)


class WholeCursor(psycopg.ClientCursor[Row]):
    """A cursor whose statement outside of a transaction has one of its own, with the connection's settings."""

    def execute(
        self,
        query: Any,
        params: Params | None = None,
        *,
        prepare: bool | None = None,
        binary: bool | None = None,  # noqa: ARG002 - these are sent as text
    ) -> Self:
        """Send it; the result is the statement's own."""
        conn = self.connection
        self.format = psycopg.pq.Format.TEXT
        if conn.info.transaction_status is not TransactionStatus.IDLE:
            return super().execute(query, params, prepare=prepare)
        try:
            super().execute(_whole(conn, self.mogrify(query, params)))
        except BaseException as error:  # a signal and a deadline, too, come in the middle of the transaction
            _check_begun(conn, error)
            with suppress(psycopg.Error):
                conn.rollback()
            raise
        _go_to_answer(self)
        return self


class AsyncWholeCursor(psycopg.AsyncClientCursor[Row]):
    """See WholeCursor."""

    async def execute(
        self,
        query: Any,
        params: Params | None = None,
        *,
        prepare: bool | None = None,
        binary: bool | None = None,  # noqa: ARG002 - see WholeCursor
    ) -> Self:
        """See WholeCursor."""
        conn = self.connection
        self.format = psycopg.pq.Format.TEXT
        if conn.info.transaction_status is not TransactionStatus.IDLE:
            return await super().execute(query, params, prepare=prepare)
        try:
            await super().execute(_whole(conn, self.mogrify(query, params)))
        except BaseException as error:
            _check_begun(conn, error)
            with suppress(psycopg.Error):
                await conn.rollback()
            raise
        _go_to_answer(self)
        return self


def _whole(conn: Any, statement: str) -> bytes:
    settings = session_settings(conn.settings, local=True).as_string(conn)
    return f"{BEGIN}; {settings}; {statement}\n; commit".encode(conn.info.encoding)


def _check_begun(conn: Any, error: BaseException) -> None:
    """Raise PoolUnreachableError where the transaction could not begin, since nothing can be written."""
    if isinstance(error, errors.FeatureNotSupported) and conn.info.transaction_status is TransactionStatus.IDLE:
        raise PoolUnreachableError(STANDBY_WORDS, errors.ReadOnlySqlTransaction.sqlstate) from error


def _go_to_answer(cursor: Any) -> None:
    for _ in ("begin", "settings"):
        cursor.nextset()
