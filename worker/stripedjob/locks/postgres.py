"""Locks in Postgres: one row a resource, one call a batch, in the database's time.

Called through backend.open_lock. The functions are the pool's (api/v1/locks.sql). Their table is
unlogged, so that a crash of the server empties it: that costs time, as losing Redis does. The connection is
this backend's own, and outside any transaction of the pool: a lock is seen at once and never rolled back.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from stripedjob.locks.backend import CALL_SECONDS_MAX, Held, LockBackend, LockSettings, check_batch
from stripedjob.locks.errors import LockConfigError, LockError, LockUnavailable
from stripedjob.pool.connection import CALLING_SESSION, check_url, connect_async, foreign_errors
from stripedjob.pool.errors import (
    PoolConfigError,
    PoolDataError,
    PoolError,
    PoolRefusedError,
    PoolSchemaError,
    PoolUnreachableError,
)
from stripedjob.pool.names import in_query
from stripedjob.urls import shown

FLUSH_KEYS_PER_CALL = 1_000
FLUSH_CALLS_MAX = 100_000


class PostgresLock(LockBackend):
    """The locks of one job in a pool's schema."""

    def __init__(self, settings: LockSettings) -> None:
        """Take the settings; the first call connects."""
        self._settings = settings
        try:
            check_url(settings.url)
        except PoolConfigError as error:
            raise LockConfigError(f"the lock URL: {error}") from None
        self._where = shown(settings.url)
        self._connection: psycopg.AsyncConnection[tuple[Any, ...]] | None = None
        self._turn = asyncio.Lock()

    async def acquire(self, resources: Sequence[str], tokens: Sequence[str], ttl_ms: int) -> list[int]:
        """See LockBackend."""
        check_batch(resources, tokens, ttl_ms)
        return await self._batch("acquire_locks(%s, %s, %s::text[], %s::text[], %s)", resources, tokens, ttl_ms)

    async def release(self, resources: Sequence[str], tokens: Sequence[str]) -> list[bool]:
        """See LockBackend."""
        check_batch(resources, tokens)
        return await self._batch("release_locks(%s, %s, %s::text[], %s::text[])", resources, tokens)

    async def look(self, resource: str) -> Held | None:
        """See LockBackend."""
        (found,) = await self._call("look_lock(%s, %s, %s)", resource)
        return Held(*found) if found else None

    async def ping(self) -> None:
        """See LockBackend; an empty batch touches no row, and fails where a function or a right is missing."""
        await self._call("acquire_locks(%s, %s, '{}', '{}', 1)")
        await self._call("release_locks(%s, %s, '{}', '{}')")

    async def flush(self) -> int:
        """See LockBackend."""
        flushed = 0
        for _ in range(FLUSH_CALLS_MAX):
            (found,) = await self._call("flush_locks(%s, %s, %s)", FLUSH_KEYS_PER_CALL)
            flushed += found
            if found < FLUSH_KEYS_PER_CALL:
                break
        return flushed

    async def close(self) -> None:
        """See LockBackend."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _batch(
        self, call: LiteralString, resources: Sequence[str], tokens: Sequence[str], *values: int
    ) -> list[Any]:
        return await self._call(call, list(resources), list(tokens), *values) if resources else []

    async def _call(self, call: LiteralString, *values: Any) -> list[Any]:
        """Make one call in bounded time, once more where the connection was lost; translate errors."""
        try:
            async with asyncio.timeout(CALL_SECONDS_MAX), self._turn:
                try:
                    return await self._execute(call, values)
                except PoolUnreachableError:  # tokens make the repetition harmless
                    return await self._execute(call, values)
        except TimeoutError as error:
            raise LockUnavailable(f"{self._where}: no answer in {CALL_SECONDS_MAX:.0f} s: is it overloaded?") from error
        except PoolError as error:
            raise translated(error, self._where) from error

    async def _execute(self, call: LiteralString, values: Sequence[Any]) -> list[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = await connect_async(self._settings.url, CALLING_SESSION)
            self._connection.prepare_threshold = None  # a transaction pooler may give each call another session
        query = sql.SQL("select {}.").format(in_query(self._settings.schema)) + sql.SQL(call)
        with foreign_errors():
            cursor = await self._connection.execute(query, [self._settings.namespace, self._settings.job_type, *values])
            return [value for (value,) in await cursor.fetchall()]


def translated(error: PoolError, where: str) -> LockError:
    """Return our error for the pool's: one that passes by itself, or one that needs a person."""
    match error:
        case PoolSchemaError():
            return LockConfigError(f"{where}: there is no pool of this version: `stripedjob migrate` makes it")
        case PoolRefusedError() | PoolConfigError():
            return LockConfigError(
                f"{error}: check user, password, database and TLS in the lock's URL, and let its role take locks:"
                " `stripedjob grant worker ROLE`"
            )
        case PoolDataError():
            return LockConfigError(
                f"{where}: {error}: the name of the namespace, job type or resource cannot be stored"
            )
    return LockUnavailable(f"{where}: {error}: check that Postgres runs and that this machine may reach it")
