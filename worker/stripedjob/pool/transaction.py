"""For handlers with `transaction: true`: their effect and the completion of their units commit together.

The executor calls `Transactional` with a unit, or with a resource's units. The handler gets the connection as its
second argument, in a transaction; it must not commit. Where it raises, or the lease was lost meanwhile, everything is
rolled back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import sql

from stripedjob.pool.connection import connect_async_for_handler, connect_for_handler

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import psycopg

    from stripedjob.runtime.work import Unit


class LeaseLostError(Exception):
    """The lease was lost while the handler ran; its transaction was rolled back."""


class Transactional:
    """A handler that takes units and a psycopg.Connection. One for each slot, since it owns its connection."""

    def __init__(self, function: Callable[[Any, psycopg.Connection], Any], url: str, schema: str, job_id: int) -> None:
        """Take the handler, and where its job is; the connection is made when it is first needed."""
        self._function, self._url, self._complete = function, url, _Completion(schema, job_id)
        self._conn: psycopg.Connection | None = None

    def __call__(self, work: Unit | list[Unit]) -> None:
        """Run the handler in a transaction that also completes its units."""
        if self._conn is None or self._conn.closed:
            self._conn = connect_for_handler(self._url, "stripedjob")
        with self._conn.transaction():
            self._function(work, self._conn)
            if self._conn.execute(self._complete.query, self._complete.values(work)).fetchone() != (True,):
                raise LeaseLostError(LeaseLostError.__doc__)


class AsyncTransactional:
    """The same for a coroutine function, with a psycopg.AsyncConnection."""

    def __init__(
        self, function: Callable[[Any, psycopg.AsyncConnection], Awaitable[Any]], url: str, schema: str, job_id: int
    ) -> None:
        """Take the handler, and where its job is; the connection is made when it is first needed."""
        self._function, self._url, self._complete = function, url, _Completion(schema, job_id)
        self._conn: psycopg.AsyncConnection | None = None

    async def __call__(self, work: Unit | list[Unit]) -> None:
        """Run the handler in a transaction that also completes its units."""
        if self._conn is None or self._conn.closed:
            self._conn = await connect_async_for_handler(self._url, "stripedjob")
        async with self._conn.transaction():
            await self._function(work, self._conn)
            cursor = await self._conn.execute(self._complete.query, self._complete.values(work))
            if await cursor.fetchone() != (True,):
                raise LeaseLostError(LeaseLostError.__doc__)


class _Completion:
    """The statement that records units as done, if their lease still holds."""

    def __init__(self, schema: str, job_id: int) -> None:
        self.query = sql.SQL("select {}.complete(%s, %s, %s, %s, %s::bigint[])").format(sql.Identifier(schema))
        self._job_id = job_id

    def values(self, work: Unit | list[Unit]) -> list[Any]:
        units = work if isinstance(work, list) else [work]
        return [self._job_id, units[0]._worker_id, units[0].resource, units[0].fence, [unit.id for unit in units]]  # noqa: SLF001
