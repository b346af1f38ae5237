"""How every part of the pool connects, and where psycopg's errors become the pool's own. Used by its adapters.

Both ends find out that the other is gone: this one within a lease, and the server before the locks of a transaction
whose client has vanished keep the next holder of its resource waiting for long. What a session relies on it sets by
itself: servers, databases and roles may have other defaults.
"""

import asyncio
import select
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import pq, sql
from psycopg.conninfo import make_conninfo

from stripedjob.pool.errors import (
    PoolConfigError,
    PoolError,
    PoolRefusedError,
    PoolSchemaError,
    PoolUnreachableError,
    class_of,
)
from stripedjob.urls import mistake_in, shown

CALL_SECONDS_MAX = 10.0  # a call that takes longer counts as a lost connection
ADMIN_SECONDS_MAX = 60.0  # what people, the supervisor and the operator ask for may take longer
LOCK_SECONDS_MAX = 5.0  # for one lock; whoever keeps it longer has a transaction open beside the pool
DIAGNOSIS_SECONDS_MAX = 5.0
CAUSES = (  # of libpq's words, which may quote the URL, those that may be shown; nothing is decided by them
    *("Connection refused", "No such file or directory", "No route to host", "Network is unreachable"),
    *("Name or service not known", "Temporary failure in name resolution", "server closed the connection"),
    *("certificate verify failed", "SSL error", "does not support SSL"),
)
CONNECTION: dict[str, Any] = {
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,  # ms: a partition is noticed within a lease
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "client_encoding": "UTF8",
}
ANY_SESSION = {
    "tcp_user_timeout": "10000",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "2",
    "default_transaction_isolation": "read committed",  # each statement of a claim has to see what was just committed
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    "datestyle": "ISO, MDY",
}
POOL_SESSION = ANY_SESSION | {
    "search_path": "pg_catalog, pg_temp",
    # Plans do not depend on statistics: a table that was empty when they were made is read by index all the same.
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "lock_timeout": str(int(LOCK_SECONDS_MAX * 1000)),
    "idle_in_transaction_session_timeout": str(int(ADMIN_SECONDS_MAX * 1000)),
}


def connect(url: str, *, statement_seconds: float = ADMIN_SECONDS_MAX) -> psycopg.Connection:
    """Connect to the pool, in autocommit mode. Raises PoolConfigError, PoolUnreachableError, PoolRefusedError."""
    return _opened(url, "stripedjob", _pool_session(statement_seconds))


def connect_for_handler(url: str, name: str) -> psycopg.Connection:
    """Connect for a handler's own transactions, under this application_name; its statements may take any time."""
    return _opened(url, name, ANY_SESSION)


async def connect_async(url: str) -> psycopg.AsyncConnection:
    """Connect as `connect` does, for calls that are bounded by CALL_SECONDS_MAX."""
    return await _opened_async(url, "stripedjob", _pool_session(CALL_SECONDS_MAX))


async def connect_async_for_handler(url: str, name: str) -> psycopg.AsyncConnection:
    """Connect as `connect_for_handler` does."""
    return await _opened_async(url, name, ANY_SESSION)


def handler_settings() -> sql.Composed:
    """Give the statement that sets what `connect_for_handler` sets, after something has reset it."""
    return _settings(ANY_SESSION)


def _pool_session(statement_seconds: float) -> dict[str, str]:
    return POOL_SESSION | {"statement_timeout": str(int(statement_seconds * 1000))}


def _opened(url: str, name: str, session: dict[str, str]) -> psycopg.Connection:
    conninfo = _conninfo(url, name)
    try:
        conn = psycopg.connect(conninfo, autocommit=True)
    except psycopg.Error as error:
        raise _why_not_connected(url, conninfo, error) from None  # libpq's words may quote the URL
    try:
        with foreign_errors():
            conn.execute(_settings(session))
    except BaseException:
        conn.close()
        raise
    return conn


async def _opened_async(url: str, name: str, session: dict[str, str]) -> psycopg.AsyncConnection:
    conninfo = _conninfo(url, name)
    with foreign_errors():
        async with asyncio.timeout(CALL_SECONDS_MAX):
            try:
                conn = await psycopg.AsyncConnection.connect(conninfo, autocommit=True)
            except psycopg.Error as error:
                raise await asyncio.to_thread(_why_not_connected, url, conninfo, error) from None
            try:
                await conn.execute(_settings(session))
            except BaseException:
                await conn.close()
                raise
    return conn


def _settings(session: dict[str, str]) -> sql.Composed:
    calls = [sql.SQL("set_config({}, {}, false)").format(name, value) for name, value in session.items()]
    return sql.SQL("select ") + sql.SQL(", ").join(calls)


def check_url(url: str) -> None:
    """Raise PoolConfigError, in words that quote nothing of it, where a URL cannot be used."""
    _conninfo(url, "")


def _conninfo(url: str, name: str) -> str:
    """Check the URL and add what every connection has; raises PoolConfigError in words that quote nothing of it."""
    mistake = (
        mistake_in(url, encoded=True) if "://" in url or "=" not in url else None
    )  # else libpq's other form: host=… user=…
    scheme = url.partition("://")[0]
    if not mistake and "://" in url and scheme not in ("postgresql", "postgres"):
        mistake = "it begins with " + ("SQLAlchemy's" if "+" in scheme else "another") + " scheme, not postgresql://"
    if not mistake:
        try:
            return make_conninfo(url, **CONNECTION, application_name=name)
        except (psycopg.Error, ValueError):
            mistake = "libpq cannot read it"
    raise PoolConfigError(
        f"the Postgres URL cannot be used: {mistake}; write postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
    )


def _where(url: str) -> str:
    return shown(url) if "://" in url else "its address"


def _why_not_connected(url: str, conninfo: str, error: psycopg.Error) -> PoolError:
    """Tell a server that is away from one that refuses, by connecting once more and listening to the protocol.

    libpq gives no SQLSTATE for a connection that failed, only words in the server's language. Its trace has the code.
    """
    where, is_silent = _where(url), isinstance(error, psycopg.errors.ConnectionTimeout)
    code, words = (None, "") if is_silent else _connection_failure(conninfo)
    if code is None:
        cause = next((one for one in CAUSES if one in str(error)), "no answer" if is_silent else "no connection")
        return PoolUnreachableError(
            f"Postgres cannot be reached at {where}: {cause}; does it run there, and may this machine reach it?"
        )
    kind = class_of(code)
    if issubclass(kind, PoolUnreachableError):
        return kind(f"Postgres cannot be used now at {where}: {words} ({code})", code)
    return PoolRefusedError(f"Postgres refused the connection to {where}: {words} ({code})", code)


def _connection_failure(conninfo: str) -> tuple[str | None, str]:
    """Give the SQLSTATE and the message with which a server refuses; (None, ""): it says nothing, or it accepts now."""
    deadline = time.monotonic() + DIAGNOSIS_SECONDS_MAX
    with tempfile.TemporaryFile() as trace:
        conn = pq.PGconn.connect_start(conninfo.encode())
        try:
            conn.trace(trace.fileno())
            status: int = pq.PollingStatus.WRITING
            while conn.status != pq.ConnStatus.BAD and status in (pq.PollingStatus.READING, pq.PollingStatus.WRITING):
                reading = [conn.socket] if status == pq.PollingStatus.READING else []
                writing = [conn.socket] if status == pq.PollingStatus.WRITING else []
                select.select(reading, writing, [], max(0.0, deadline - time.monotonic()))
                if time.monotonic() > deadline:
                    break
                status = conn.connect_poll()
            conn.untrace()
        finally:
            conn.finish()
        trace.seek(0)
        return _last_error(trace.read().decode(errors="replace"))


def _last_error(trace: str) -> tuple[str | None, str]:
    """Read the last ErrorResponse of libpq's trace: … ErrorResponse S "FATAL" V "FATAL" C "28P01" M "…" …"."""
    errors = [line for line in trace.splitlines() if "\tErrorResponse\t" in line]
    if not errors:
        return None, ""
    _, _, after = errors[-1].partition(' C "')
    code, _, rest = after.partition('" M "')
    return code or None, rest.rpartition('" F "')[0]


@contextmanager
def foreign_errors() -> Iterator[None]:
    """Turn psycopg's errors into the pool's, by their SQLSTATE."""
    try:
        yield
    except TimeoutError as error:
        raise PoolUnreachableError(f"Postgres did not answer within {CALL_SECONDS_MAX:g} s") from error
    except psycopg.OperationalError as error:
        if error.sqlstate is None:
            raise PoolUnreachableError("the connection to Postgres was lost") from error
        raise _ours(error) from error
    except psycopg.Error as error:
        raise _ours(error) from error


def _ours(error: psycopg.Error) -> PoolError:
    if error.sqlstate is None:  # a mistake in how it was called
        return PoolError(str(error))
    kind, words = class_of(error.sqlstate), f"{error.diag.message_primary} ({error.sqlstate})"
    if kind is PoolSchemaError:
        words = f"{PoolSchemaError.__doc__} Postgres says: {words}"
    elif kind is PoolRefusedError:
        words = f"Postgres refused: {words}"
    return kind(words, error.sqlstate)
