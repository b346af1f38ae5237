"""Database roles that are roles of the pool, as `stripedjob grant` makes them."""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit, urlunsplit

from psycopg import sql

from stripedjob.pool.install.roles import grant

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

PASSWORD = "secret"  # noqa: S105 - of roles that live for as long as a test


def granted(conn: psycopg.Connection, role: str, to: str, schema: str = "striped", **how: Any) -> None:
    """Grant it, as the connection's role."""
    for statement in grant(schema, role, to, **how):
        conn.execute(statement.encode())


@contextmanager
def new_role(conn: psycopg.Connection, *roles: str, **how: Any) -> Iterator[str]:
    """Make a role that may log in, with these of the pool's roles; taken away with all its rights in this database."""
    name = f"test {secrets.token_hex(6)}"  # which has to be quoted
    conn.execute(sql.SQL("create role {} login password {}").format(sql.Identifier(name), PASSWORD))
    try:
        for role in roles:
            granted(conn, role, name, **how)
        yield name
    finally:
        conn.execute(sql.SQL("drop owned by {0}; drop role {0}").format(sql.Identifier(name)))


def as_role(url: str, role: str) -> str:
    """Give the URL with which this role logs in."""
    parts = urlsplit(url)
    _, _, where = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{quote(role)}:{PASSWORD}@{where}"))
