"""Locks in Postgres: one row a resource, one statement a batch, in the database's time.

Called through backend.open_lock. The table is made by the pool's migrations (0002_locks.sql); it is
unlogged, so that a crash of the server empties it: that costs time, as losing Redis does. The connection is
this backend's own, and outside any transaction of the pool: a lock is seen at once and never rolled back.
"""

import asyncio
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import psycopg
from psycopg import sql

from stripedjob.locks.backend import CALL_SECONDS_MAX, LockBackend, LockSettings, check_batch
from stripedjob.locks.errors import LockConfigError, LockError, LockUnavailable
from stripedjob.pool.connection import check_url, connect_async, foreign_errors
from stripedjob.pool.errors import (
    PoolConfigError,
    PoolDataError,
    PoolError,
    PoolRefusedError,
    PoolSchemaError,
    PoolUnreachableError,
)
from stripedjob.urls import shown

FLUSH_KEYS_PER_CALL = 1_000
FLUSH_CALLS_MAX = 100_000
SCHEMA_TOKEN = "@extschema@"  # noqa: S105 - not a secret: what the .sql files say for the schema


Cursor = psycopg.AsyncCursor[tuple[Any, ...]]


class PostgresLock(LockBackend):
    """The locks of one job in the table `lock` of a schema."""

    def __init__(self, settings: LockSettings) -> None:
        """Take the settings; the first call connects."""
        self._settings = settings
        try:
            check_url(settings.url)
        except PoolConfigError as error:
            raise LockConfigError(f"the lock URL: {error}") from None
        self._where = shown(settings.url)
        self._job = {"namespace": settings.namespace, "job_type": settings.job_type}
        schema = settings.schema.replace("%", "%%")  # these statements take parameters
        self._acquire, self._release, self._flush = (load_sql(name, schema) for name in ("acquire", "release", "flush"))
        self._connection: psycopg.AsyncConnection[tuple[Any, ...]] | None = None
        self._turn = asyncio.Lock()

    async def acquire(self, resources: Sequence[str], tokens: Sequence[str], ttl_ms: int) -> list[int]:
        """See LockBackend."""
        check_batch(resources, tokens, ttl_ms)
        return await self._batch(self._acquire, resources, tokens, ttl_ms)

    async def release(self, resources: Sequence[str], tokens: Sequence[str]) -> list[bool]:
        """See LockBackend."""
        check_batch(resources, tokens)
        return await self._batch(self._release, resources, tokens)

    async def ping(self) -> None:
        """See LockBackend; an empty batch touches no row, and fails where the table or a right is missing."""
        nothing: dict[str, list[str]] = {"resources": [], "tokens": []}
        await self._call(self._acquire, {**nothing, "ttl_ms": 1})
        await self._call(self._release, nothing)

    async def flush(self) -> int:
        """See LockBackend."""
        flushed = 0
        for _ in range(FLUSH_CALLS_MAX):
            cursor = await self._call(self._flush, {"keys": FLUSH_KEYS_PER_CALL})
            flushed += cursor.rowcount
            if cursor.rowcount < FLUSH_KEYS_PER_CALL:
                break
        return flushed

    async def close(self) -> None:
        """See LockBackend."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _batch(
        self, statement: bytes, resources: Sequence[str], tokens: Sequence[str], ttl_ms: int = 0
    ) -> list[Any]:
        if not resources:
            return []
        batch = {"resources": list(resources), "tokens": list(tokens), "ttl_ms": ttl_ms}
        return [value for (value,) in await (await self._call(statement, batch)).fetchall()]

    async def _call(self, statement: bytes, arguments: Mapping[str, Any]) -> Cursor:
        """Run one statement in bounded time, once more where the connection was lost; translate errors."""
        try:
            async with asyncio.timeout(CALL_SECONDS_MAX), self._turn:
                try:
                    return await self._execute(statement, arguments)
                except PoolUnreachableError:  # tokens make the repetition harmless
                    return await self._execute(statement, arguments)
        except TimeoutError as error:
            raise LockUnavailable(f"{self._where}: no answer in {CALL_SECONDS_MAX:.0f} s: is it overloaded?") from error
        except PoolError as error:
            raise translated(error, self._where) from error

    async def _execute(self, statement: bytes, arguments: Mapping[str, Any]) -> Cursor:
        if self._connection is None or self._connection.closed:
            self._connection = await connect_async(self._settings.url)
            self._connection.prepare_threshold = None  # a transaction pooler may give each call another session
        with foreign_errors():
            return await self._connection.execute(statement, {**self._job, **arguments})


def load_sql(name: str, schema: str) -> bytes:
    """Read NAME.sql beside this module, for the tables of `schema`."""
    text = files(__package__).joinpath(f"{name}.sql").read_text(encoding="utf-8")
    return text.replace(SCHEMA_TOKEN, sql.Identifier(schema).as_string()).encode()


def translated(error: PoolError, where: str) -> LockError:
    """Return our error for the pool's: one that passes by itself, or one that needs a person."""
    match error:
        case PoolSchemaError():
            return LockConfigError(f"{where}: the table `lock` is missing: create it with `stripedjob migrate`")
        case PoolRefusedError() | PoolConfigError():
            return LockConfigError(
                f"{error}: check user, password, database and TLS in the lock's URL, and grant the worker's role"
                " select, insert, update and delete on the table `lock`"
            )
        case PoolDataError():
            return LockConfigError(
                f"{where}: {error}: the name of the namespace, job type or resource cannot be stored"
            )
    return LockUnavailable(f"{where}: {error}: check that Postgres runs and that this machine may reach it")
