"""From what an application calls its connection to psycopg's own, in the application's transaction. Used by enqueue.py.

SQLAlchemy and Django are recognised by what they offer, so that neither has to be installed.
"""

from typing import Any

import psycopg

BY_SQL = "put units in by SQL on that connection: select striped.enqueue('JOB', 'RESOURCE', 'JSON')"


def psycopg_of(conn: Any) -> psycopg.Connection[Any]:
    """Return the psycopg connection of a psycopg or SQLAlchemy Connection, a SQLAlchemy Session or a Django connection.

    What is done on it belongs to the transaction that the application ends. Raises TypeError for anything else.
    """
    found = conn
    if callable(getattr(found, "connection", None)) and hasattr(found, "get_bind"):  # a Session of SQLAlchemy
        found = found.connection()
    if hasattr(found, "ensure_connection"):  # Django
        found.ensure_connection()
        found = found.connection
    elif hasattr(found, "exec_driver_sql"):  # a Connection of SQLAlchemy
        if not found.in_transaction():
            found.begin()  # else its commit() commits nothing
        found = found.connection.driver_connection
    if isinstance(found, psycopg.Connection):
        return found
    if isinstance(found, psycopg.AsyncConnection):
        raise TypeError("this is a connection of asyncio: await stripedjob.aenqueue or aenqueue_many with it")
    raise _unknown(conn, "a psycopg.Connection, a SQLAlchemy Connection or Session on psycopg, or Django's connection")


def async_psycopg_of(conn: Any) -> psycopg.AsyncConnection[Any]:
    """Return a psycopg.AsyncConnection as it is; raises TypeError for anything else."""
    if isinstance(conn, psycopg.AsyncConnection):
        return conn
    raise _unknown(conn, "a psycopg.AsyncConnection")


def _unknown(conn: Any, known: str) -> TypeError:
    kind = type(conn)
    return TypeError(f"{kind.__module__}.{kind.__qualname__} is not {known}; {BY_SQL}")
