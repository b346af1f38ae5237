"""Takes a pool out of a database: what is recorded as ours, and nothing else. Called by `stripedjob teardown`."""

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import errors, sql

from stripedjob.pool.errors import PoolError, PoolRefusedError
from stripedjob.pool.install import migrate, objects
from stripedjob.pool.install.scripts import check_schema_name


@dataclass(frozen=True, slots=True)
class Torn:
    """What became of the schema: `dropped` as well, or kept with what of others is in it."""

    dropped: bool
    left: tuple[str, ...]


def teardown(conn: psycopg.Connection[Any], schema: str = "striped") -> Torn | None:
    """Drop what is ours: all jobs and units; the schema, if it was made for the pool and is empty then. None: no pool.

    Raises PoolRefusedError, and drops nothing, where objects of others depend on ours; PoolError where a lock was not
    to be had.
    """
    check_schema_name(schema)
    try:
        with conn.transaction():
            migrate.lock(conn)
            if migrate.version(conn, schema) == 0:
                return None
            return _teardown(conn, schema)
    except errors.LockNotAvailable as error:
        raise PoolError(f"schema {schema} is in use: end its workers and open transactions, and try again") from error


def _teardown(conn: psycopg.Connection[Any], schema: str) -> Torn:
    known = objects.recorded(conn, schema)
    ours = [one for one in objects.listed(conn, schema) if one.key in known]
    others = objects.foreign_dependants(conn, ours)
    if others:
        raise PoolRefusedError(f"schema {schema} was left as it is, since these depend on it: {', '.join(others)}")
    _drop_all(conn, ours)
    left = tuple(str(one) for one in objects.listed(conn, schema))
    name = sql.Identifier(schema)
    dropped = not left and ("schema", name.as_string()) in known
    if dropped:
        conn.execute(sql.SQL("drop schema {}").format(name))
    return Torn(dropped, left)


def _drop_all(conn: psycopg.Connection[Any], ours: list[objects.Object]) -> None:
    """Drop in the order in which nothing depends on the next; never by CASCADE."""
    while ours:
        left = [one for one in ours if not _dropped(conn, one)]
        if len(left) == len(ours):
            raise PoolError(f"{left[0]} cannot be dropped, since something depends on it")
        ours = left


def _dropped(conn: psycopg.Connection[Any], one: objects.Object) -> bool:
    try:
        with conn.transaction():
            conn.execute(f"drop {one.kind} {one.identity}".encode())  # as Postgres itself quotes it
    except errors.DependentObjectsStillExist:
        return False
    return True
