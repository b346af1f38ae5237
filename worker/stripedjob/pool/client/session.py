"""One asynchronous connection to a pool: calls of one round trip each, and calls (NOTIFY) that end a sleep.

The base of what a worker and a delegator say to the pool. Foreign errors end here: a lost connection becomes
PoolUnreachableError.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, Self

import psycopg
from psycopg import sql

from stripedjob.pool.connection import CALL_SECONDS_MAX, CALLING_SESSION, connect_async, foreign_errors
from stripedjob.pool.errors import PoolRetryError, PoolSchemaError
from stripedjob.pool.install.scripts import latest
from stripedjob.pool.names import channel as channel_of
from stripedjob.pool.names import in_query
from stripedjob.pool.pooled import AsyncConnection

TRIES_MAX = 3  # of a call that met a deadlock or a time-out, over the same connection
RETRY_SECONDS = 0.05
UNCALLED_SECONDS = 0.5  # of sleep at least, where nobody can be called,
UNCALLED_SHARE = 1 / 6  # and of what is slept elsewhere


class PoolSession:
    """A connection to the pool; `async with PoolSession.open(url, schema)`."""

    def __init__(self, conn: AsyncConnection, schema: str) -> None:
        """Take a connection in autocommit mode."""
        self._conn = conn
        self._schema = schema
        self._select = sql.SQL("select * from {}.").format(in_query(schema)).as_bytes()
        self._channel: str | None = None

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, schema: str = "striped") -> AsyncIterator[Self]:
        """Connect; raises PoolUnreachableError or PoolRefusedError with the server's own words."""
        conn = await connect_async(url, CALLING_SESSION)
        try:
            yield cls(conn, schema)
        finally:
            await conn.close()

    async def check_schema(self) -> None:
        """Raise PoolSchemaError where the schema is older than this package; a newer one has all that this needs."""
        there, needed = int(await self._value("schema_version()", [])), latest()
        if there < needed:
            raise PoolSchemaError(
                f'schema "{self._schema}" is at version {there}, and this stripedjob needs {needed}: '
                "run `stripedjob migrate FILE` of this version first"
            )

    async def job_id(self, namespace: str, job_type: str) -> int:
        """Find a job; raises PoolError where there is none."""
        return int(await self._value("job_id(%s, %s)", [namespace, job_type]))

    async def _sleep(self, of: str, seconds: float, wake: asyncio.Event, concerns: Callable[[str], bool]) -> bool:
        """Sleep so long, or until `wake` is set, or until a call on a channel concerns this process: then True.

        Through a pooler nobody hears a call: the session that listens would be somebody else's. So it asks more often.
        """
        if self._conn.is_pooled:
            await _slept(min(seconds, max(UNCALLED_SECONDS, seconds * UNCALLED_SHARE)), wake)
            return False
        channel = channel_of(self._schema, of)
        if self._channel != channel:
            await self._run(sql.SQL("listen {}").format(in_query(channel)), [])
            self._channel = channel
            return True  # a call may have come before anybody listened
        tasks: list[asyncio.Task[bool]] = [
            asyncio.create_task(self._called(seconds, concerns)),
            asyncio.create_task(wake.wait()),
        ]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.wait(tasks)
        return tasks[0] in done and tasks[0].result()

    async def _called(self, seconds: float, concerns: Callable[[str], bool]) -> bool:
        end = time.monotonic() + seconds
        with foreign_errors():
            while (left := end - time.monotonic()) > 0:
                async with aclosing(self._conn.notifies(timeout=left, stop_after=1)) as calls:
                    if any([concerns(call.payload) async for call in calls]):
                        return True
        return False

    async def _forget_calls(self) -> None:
        """Drop calls that came in between: where nobody sleeps they are of no use, and would pile up."""
        if self._channel is not None:
            with foreign_errors():
                async with aclosing(self._conn.notifies(timeout=0)) as calls:
                    async for _ in calls:
                        pass

    async def _value(self, call: str, values: Sequence[Any]) -> Any:
        return (await self._rows(call, values))[0][0]

    async def _rows(self, call: str, values: Sequence[Any]) -> list[Any]:
        """Make a call; see _fetch."""
        return await self._fetch(self._select + call.encode(), values)

    async def _rows_after(self, first: str, call: str, values: Sequence[Any]) -> list[Any]:
        """Make two calls, each in a transaction of its own, and return the second's rows; `values` are those of both.

        It is one message, but through a pooler, where a message is one transaction.
        """
        if self._conn.is_pooled:
            places = first.count("%s")
            await self._rows(first, values[:places])
            return await self._rows(call, values[places:])
        query = b"begin; " + self._select + first.encode() + b"; commit; " + self._select + call.encode()
        return await self._retried(lambda: self._last_rows(query, values))

    async def _fetch(self, query: sql.Composed | bytes, values: Sequence[Any]) -> list[Any]:
        """Run a query; returns its rows."""

        async def rows() -> list[Any]:
            return await (await self._run(query, values)).fetchall()

        return await self._retried(rows)

    async def _retried(self, run: Callable[[], Awaitable[list[Any]]]) -> list[Any]:
        """Run something again where Postgres was busy: of a transaction that failed nothing is left."""
        for tries in range(1, TRIES_MAX):
            try:
                return await run()
            except PoolRetryError:
                await asyncio.sleep(RETRY_SECONDS * tries)
        return await run()

    async def _run(self, query: sql.Composed | bytes, values: Sequence[Any]) -> psycopg.AsyncCursor[Any]:
        with foreign_errors():
            async with asyncio.timeout(CALL_SECONDS_MAX):
                return await self._conn.execute(query, values, binary=True)

    async def _last_rows(self, statements: bytes, values: Sequence[Any]) -> list[Any]:
        """Run statements that stand in one message; returns the rows of the last."""
        with foreign_errors():
            async with asyncio.timeout(CALL_SECONDS_MAX):
                cursor = psycopg.AsyncClientCursor(self._conn)
                try:
                    await cursor.execute(statements, values)
                except BaseException:  # in the middle of a transaction, maybe
                    with suppress(psycopg.Error):
                        await self._conn.rollback()
                    raise
                while cursor.nextset():
                    pass
                return await cursor.fetchall()


async def _slept(seconds: float, wake: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await wake.wait()
