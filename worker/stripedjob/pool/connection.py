"""How every part of the pool connects, and where psycopg's errors become the pool's own. Used by its adapters.

Both ends find out that the other is gone: this one within a lease, and the server before the locks of a transaction
whose client has vanished keep the next holder of its resource waiting for long. What a session relies on it sets by
itself: servers, databases and roles may have other defaults. Through a pooler each transaction does (pooled.py).
"""

import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import pq, sql
from psycopg.conninfo import make_conninfo
from psycopg.waiting import Wait, wait_conn, wait_conn_async

from stripedjob.pool.errors import (
    PoolConfigError,
    PoolError,
    PoolRefusedError,
    PoolSchemaError,
    PoolUnreachableError,
    class_of,
)
from stripedjob.pool.pooled import (
    AsyncConnection,
    AsyncWholeCursor,
    Connection,
    WholeCursor,
    direct_settings,
    session_settings,
)
from stripedjob.urls import mistake_in, shown

if TYPE_CHECKING:
    from psycopg.abc import PQGenConn

CALL_SECONDS_MAX = 10.0  # a call that takes longer counts as a lost connection
ADMIN_SECONDS_MAX = 60.0  # what people, the supervisor and the operator ask for may take longer
LOCK_SECONDS_MAX = 5.0  # for one lock; whoever keeps it longer has a transaction open beside the pool
DIAGNOSIS_SECONDS_MAX = 5.0
WAIT_SECONDS = 0.1  # between two looks at the clock
WAITS: dict[int, Wait] = {pq.PollingStatus.READING: Wait.R, pq.PollingStatus.WRITING: Wait.W}
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
    "application_name": "stripedjob",
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
    # Nor on what somebody has set for the server: with these off, cheap statements look so expensive that they would be
    # compiled (seconds for each session), or be given processes of their own.
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    "plan_cache_mode": "auto",
    "enable_indexscan": "on",
    "enable_indexonlyscan": "on",
    "enable_tidscan": "on",
    "enable_nestloop": "on",
    "lock_timeout": str(int(LOCK_SECONDS_MAX * 1000)),
    "idle_in_transaction_session_timeout": str(int(ADMIN_SECONDS_MAX * 1000)),
    "idle_session_timeout": "0",
    "array_nulls": "on",
}
# Of processes that make the same few calls again and again: each statement in them is planned once. To plan them for
# each call, as Postgres does where it hopes to gain by it, took a third of the time from a commit to the handler.
CALLING_SESSION = POOL_SESSION | {"plan_cache_mode": "force_generic_plan"}


def connect(url: str, *, statement_seconds: float = ADMIN_SECONDS_MAX) -> Connection:
    """Connect to the pool, in autocommit mode. Raises PoolConfigError, PoolUnreachableError, PoolRefusedError."""
    conn = _opened(url, POOL_SESSION | _statements_within(statement_seconds))
    if conn.is_pooled:
        conn.cursor_factory = WholeCursor
    return conn


async def connect_async(url: str, session: dict[str, str] = POOL_SESSION) -> AsyncConnection:
    """Connect as `connect` does, for calls that are bounded by CALL_SECONDS_MAX."""
    conn = await _opened_async(url, session | _statements_within(CALL_SECONDS_MAX))
    if conn.is_pooled:
        conn.cursor_factory = AsyncWholeCursor
    return conn


def connect_for_handler(url: str, name: str) -> Connection:
    """Connect for a handler's own transactions, under this application_name; its statements may take any time."""
    return _opened(url, _handler_session(name))


async def connect_async_for_handler(url: str, name: str) -> AsyncConnection:
    """Connect as `connect_for_handler` does."""
    return await _opened_async(url, _handler_session(name))


def handler_settings(name: str) -> sql.Composed:
    """Return the statement that sets what `connect_for_handler` sets, after something has reset it."""
    return session_settings(_handler_session(name))


def pooled_handler_settings(idle_seconds_max: float) -> sql.Composed:
    """Return the statements that follow a reset through a pooler, in each transaction; none of them takes a snapshot.

    First what a pooler keeps for each client. Nobody may end a session by its name there, since it may be another's by
    then: so the server ends a transaction that nobody uses, where its client has vanished unnoticed.
    """
    kept = {name: CONNECTION[name] for name in ("client_encoding", "application_name")}
    own = {
        "datestyle": ANY_SESSION["datestyle"],
        "idle_in_transaction_session_timeout": str(int(idle_seconds_max * 1000)),
    }
    settings = [
        sql.SQL("set {} {} to {}").format(sql.SQL(scope), sql.Identifier(name), value)
        for scope, values in (("session", kept), ("local", own))
        for name, value in values.items()
    ]
    return sql.SQL("; ").join(settings)


def _statements_within(seconds: float) -> dict[str, str]:
    return {"statement_timeout": str(int(seconds * 1000))}


def _handler_session(name: str) -> dict[str, str]:
    return ANY_SESSION | {"application_name": name}


def _opened(url: str, session: dict[str, str]) -> Connection:
    conninfo = _conninfo(url)
    try:
        conn = Connection.connect(conninfo, autocommit=True)
    except psycopg.Error as error:
        told = "" if _is_silent(error) else wait_conn(_told(conninfo, error), interval=WAIT_SECONDS)
        raise _why_not_connected(url, error, told) from None  # libpq's words may quote the URL
    try:
        with foreign_errors():
            if conn.execute(direct_settings(session, conn.info.backend_pid)).fetchone() is None:
                conn.go_through_pooler(_of_transactions(session))
    except BaseException:
        conn.close()
        raise
    return conn


async def _opened_async(url: str, session: dict[str, str]) -> AsyncConnection:
    conninfo = _conninfo(url)
    with foreign_errors():
        async with asyncio.timeout(CALL_SECONDS_MAX):
            try:
                conn = await AsyncConnection.connect(conninfo, autocommit=True)
            except psycopg.Error as error:
                told = "" if _is_silent(error) else await wait_conn_async(_told(conninfo, error), interval=WAIT_SECONDS)
                raise _why_not_connected(url, error, told) from None
            try:
                found = await conn.execute(direct_settings(session, conn.info.backend_pid))
                if await found.fetchone() is None:
                    await conn.go_through_pooler(_of_transactions(session))
            except BaseException:
                await conn.close()
                raise
    return conn


def _of_transactions(session: dict[str, str]) -> dict[str, str]:
    """Return what of a session's settings is each transaction's through a pooler, whose BEGIN says the rest."""
    return {name: value for name, value in session.items() if not name.startswith(("tcp_", "default_transaction_"))}


def check_url(url: str) -> None:
    """Raise PoolConfigError, in words that quote nothing of it, where a URL cannot be used."""
    _conninfo(url)


def _conninfo(url: str) -> str:
    """Check the URL and add what every connection has; raises PoolConfigError in words that quote nothing of it."""
    mistake = (
        mistake_in(url, encoded=True) if "://" in url or "=" not in url else None
    )  # else libpq's other form: host=… user=…
    scheme = url.partition("://")[0]
    if not mistake and "://" in url and scheme not in ("postgresql", "postgres"):
        mistake = "it begins with " + ("SQLAlchemy's" if "+" in scheme else "another") + " scheme, not postgresql://"
    if not mistake:
        try:
            return make_conninfo(url, **CONNECTION)
        except (psycopg.Error, ValueError):
            mistake = "libpq cannot read it"
    raise PoolConfigError(
        f"the Postgres URL cannot be used: {mistake}; write postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
    )


def _where(url: str) -> str:
    return shown(url) if "://" in url else "its address"


def _is_silent(error: psycopg.Error) -> bool:
    """Tell that there is nobody to ask: no answer in time, or no connection at all."""
    return isinstance(error, psycopg.errors.ConnectionTimeout) or error.pgconn is None


def _why_not_connected(url: str, error: psycopg.Error, told: str) -> PoolError:
    """Tell a server that is away from one that refuses, by what `_told` has heard."""
    code, words = _last_error(told)
    where = _where(url)
    if code is None:
        cause = next((one for one in CAUSES if one in str(error)), "no connection")
        return PoolUnreachableError(
            f"Postgres cannot be reached at {where}: {cause}; does it run there, and may this machine reach it?"
        )
    kind = class_of(code)
    if issubclass(kind, PoolUnreachableError):
        return kind(f"Postgres cannot be used now at {where}: {words} ({code})", code)
    return PoolRefusedError(f"Postgres refused the connection to {where}: {words} ({code})", code)


def _told(conninfo: str, error: psycopg.Error) -> "PQGenConn[str]":
    """Connect once more, to the address that was found, and give libpq's trace of what the server says.

    libpq gives no SQLSTATE for a connection that failed, only words in the server's language. Its trace has the code.
    To be run by psycopg's wait_conn or wait_conn_async.
    """
    address = error.pgconn.hostaddr.decode() if error.pgconn and error.pgconn.hostaddr else ""
    conninfo = make_conninfo(conninfo, hostaddr=address) if address else conninfo
    deadline = time.monotonic() + DIAGNOSIS_SECONDS_MAX
    with tempfile.TemporaryFile() as trace:
        conn = pq.PGconn.connect_start(conninfo.encode())
        try:
            conn.trace(trace.fileno())
            while conn.status != pq.ConnStatus.BAD and time.monotonic() < deadline:
                status = conn.connect_poll()
                if status not in WAITS:
                    break
                while time.monotonic() < deadline and not (yield conn.socket, WAITS[status]):
                    pass  # libpq wants to be asked only when its socket is ready
            conn.untrace()
        finally:
            conn.finish()
        trace.seek(0)
        return trace.read().decode(errors="replace")


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
    except (psycopg.OperationalError, psycopg.InternalError) as error:  # the latter of a pooler that says it twice
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
