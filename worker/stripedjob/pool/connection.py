"""How every part of the pool connects, and where psycopg's errors become the pool's own. Used by its adapters.

Both ends find out that the other is gone: this one within a lease, and the server before the locks of a transaction
whose client has vanished keep the next holder of its resource waiting for long.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from stripedjob.pool.errors import PoolError, PoolRefusedError, PoolSchemaError, PoolUnreachableError, WorkerLostError

CALL_SECONDS_MAX = 10.0  # a call that takes longer counts as a lost connection
CONNECTION: dict[str, Any] = {
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,  # ms: a partition is noticed within a lease
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "application_name": "stripedjob",
}
SERVER_SIDE = """
select set_config(name, value, false) from (values
    ('tcp_user_timeout', '10000'), ('tcp_keepalives_idle', '10'),
    ('tcp_keepalives_interval', '5'), ('tcp_keepalives_count', '2')) settings (name, value)"""
WORKER_LOST = "SJ001"  # the SQLSTATE that live_worker() raises
TRANSIENT = (
    "starting up",
    "shutting down",
    "recovery mode",
    "too many clients",
    "connection slots",
    "not yet accepting",
)


def connect(url: str, name: str = "stripedjob") -> psycopg.Connection:
    """Connect, in autocommit mode; raises PoolUnreachableError or PoolRefusedError with the server's own words.

    `name` is what Postgres shows of the session.
    """
    try:
        conn = psycopg.connect(url, autocommit=True, **CONNECTION | {"application_name": name})
        conn.execute(SERVER_SIDE)
    except psycopg.Error as error:
        raise _connection_error(error) from error
    return conn


async def connect_async(url: str, name: str = "stripedjob") -> psycopg.AsyncConnection:
    """Connect as `connect` does."""
    try:
        async with asyncio.timeout(CALL_SECONDS_MAX):
            conn = await psycopg.AsyncConnection.connect(
                url, autocommit=True, **CONNECTION | {"application_name": name}
            )
            await conn.execute(SERVER_SIDE)
    except psycopg.Error as error:
        raise _connection_error(error) from error
    except TimeoutError as error:
        raise PoolUnreachableError(f"Postgres did not answer within {CALL_SECONDS_MAX:g} s") from error
    return conn


def _connection_error(error: psycopg.Error) -> PoolError:
    """Tell a server that is away from one that refuses: libpq gives no code for either, only the server's words."""
    words = " ".join(str(error).split())
    if not isinstance(error, psycopg.OperationalError):
        return PoolRefusedError(f"the Postgres URL cannot be used: {words}")
    if "FATAL" in words and not any(sign in words for sign in TRANSIENT):
        return PoolRefusedError(f"Postgres refused the connection: {words}")
    return PoolUnreachableError(f"Postgres cannot be reached: {words}")


@contextmanager
def foreign_errors() -> Iterator[None]:
    """Turn psycopg's errors into the pool's."""
    try:
        yield
    except (psycopg.errors.UndefinedFunction, psycopg.errors.InvalidSchemaName) as error:
        raise PoolSchemaError from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise PoolRefusedError(f"Postgres refused: {error}") from error
    except TimeoutError as error:
        raise PoolUnreachableError(f"Postgres did not answer within {CALL_SECONDS_MAX:g} s") from error
    except psycopg.OperationalError as error:
        raise PoolUnreachableError(f"the connection to Postgres was lost: {error}") from error
    except psycopg.DatabaseError as error:
        if error.sqlstate == WORKER_LOST:
            raise WorkerLostError from error
        raise PoolError(str(error)) from error
