"""A pool whose server may hang: every call has a deadline, which the server keeps, and this side where it does not.

Used by the operator, with one of these for each of a database's tasks. Connecting is asyncio's, so that it can be given
up. The calls of a role's pool block, and so have a thread of their own; at the deadline their socket is shut down under
them, upon which they fail at once and the thread is free.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Any, Generic, TypeVar

from stripedjob.pool.client.viewer import ViewerPool
from stripedjob.pool.connection import CALL_SECONDS_MAX, connect_async, foreign_errors
from stripedjob.pool.errors import PoolUnreachableError
from stripedjob.pool.pooled import AsyncConnection, Connection

GRACE_SECONDS = 2.0  # in which the server may say that it has ended a statement, before this side ends the connection

T = TypeVar("T")
P = TypeVar("P", bound=ViewerPool)


class BoundedPool(Generic[P]):
    """A pool as one role sees it; `async with BoundedPool.open(url, schema, OperatorPool)`. One call at a time."""

    def __init__(self, conn: AsyncConnection, schema: str, role: type[P]) -> None:
        """Take over a connection in autocommit mode."""
        self._opened = conn  # shares its libpq connection with the blocking one
        self._conn = Connection.of(conn)
        self._pool = role(self._conn, schema)
        self._socket = socket.socket(fileno=os.dup(conn.pgconn.socket))  # a number that nobody else closes
        self._thread = ThreadPoolExecutor(1, "pool")
        self._statement_seconds = CALL_SECONDS_MAX
        self._call: asyncio.Future[Any] | None = None
        self._called: Callable[[], None] | None = None

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, schema: str, role: type[P]) -> AsyncIterator["BoundedPool[P]"]:
        """Connect; raises PoolConfigError, PoolUnreachableError, PoolRefusedError."""
        pool = cls(await connect_async(url), schema, role)
        try:
            yield pool
        finally:
            await pool._close()

    @property
    def is_usable(self) -> bool:
        """Return whether the connection takes another call."""
        return not self._conn.closed and (self._call is None or self._call.done())

    async def listen(self, of: str, called: Callable[[], None]) -> None:
        """Have `called` run when there is a call (NOTIFY) on the channel (names.py) while nobody uses the connection.

        It runs once, and again only when another call() has read what had come. Raises as call() does. Through a pooler
        it never runs: the session that listens would be somebody else's.
        """
        if self._conn.is_pooled:
            return
        self._conn.add_notify_handler(lambda _: None)  # or they would be kept
        await self.call(lambda pool: pool.listen(of), CALL_SECONDS_MAX)
        self._called = called
        self._watch()

    def _watch(self) -> None:
        if self._called is not None and not self._conn.closed:
            asyncio.get_running_loop().add_reader(self._socket, self._heard)

    def _heard(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        if self._called is not None:
            self._called()

    async def call(self, work: Callable[[P], T], seconds: float) -> T:
        """Run `work` in the thread. `seconds`: for each statement by the server's clock, for all of it by ours.

        Raises what `work` raises, and PoolUnreachableError where the server keeps no deadline.
        """
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._socket)
        future = loop.run_in_executor(self._thread, self._work, work, seconds)
        future.add_done_callback(lambda done: done.cancelled() or done.exception())  # even if nobody waits any more
        self._call = future
        done, _ = await asyncio.wait({future}, timeout=seconds + GRACE_SECONDS)
        if not done:
            self._cut()
            await asyncio.wait({future}, timeout=GRACE_SECONDS)
            raise PoolUnreachableError(f"Postgres did not answer within {seconds:g} s")
        self._watch()
        return future.result()

    def _work(self, work: Callable[[P], T], seconds: float) -> T:
        if self._statement_seconds != seconds:
            with foreign_errors():
                self._conn.limit_statements(seconds)
            self._statement_seconds = seconds
        return work(self._pool)

    def _cut(self) -> None:
        with suppress(OSError):  # the other end has gone already
            self._socket.shutdown(socket.SHUT_RDWR)

    async def _close(self) -> None:
        """End the connection, also under a call that still runs; nothing of it can take long then."""
        if not self.is_usable:
            self._cut()
        asyncio.get_running_loop().remove_reader(self._socket)
        self._called = None
        closing = asyncio.get_running_loop().run_in_executor(self._thread, self._conn.close)
        self._thread.shutdown(wait=False)
        await asyncio.wait({closing}, timeout=GRACE_SECONDS)
        self._socket.close()
