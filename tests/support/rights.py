"""Database roles that are roles of the pool, as `stripedjob grant` makes them, and a pool with one of each."""

from __future__ import annotations

import secrets
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
from psycopg import errors, sql

from stripedjob.pool.client.owner import OwnerPool
from stripedjob.pool.install.migrate import migrate
from stripedjob.pool.install.roles import PAYLOADS, ROLES, grant
from stripedjob.pool.types import JobSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

CALLERS = {**ROLES, "nobody": (), "viewer with payloads": (*ROLES["viewer"], PAYLOADS)}
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
    """Return the URL with which this role logs in."""
    parts = urlsplit(url)
    _, _, where = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{quote(role)}:{PASSWORD}@{where}"))


@dataclass(frozen=True)
class Pool:
    """A pool with two jobs, and a connection for each role: of the pool's, of nobody, and of its owner."""

    url: str
    admin: psycopg.Connection  # a superuser's
    owner: psycopg.Connection
    jobs: tuple[int, int]
    roles: dict[str, str]

    def connect(self, role: str) -> psycopg.Connection:
        return psycopg.connect(as_role(self.url, self.roles.get(role, role)), autocommit=True)


@contextmanager
def pool_of(url: str, *, ordinary: bool) -> Iterator[Pool]:
    """Make a pool that belongs to an ordinary role, or to a superuser; nobody may have temporary tables."""
    with psycopg.connect(url, autocommit=True) as admin, ExitStack() as stack:
        name = sql.Identifier(admin.info.dbname)
        admin.execute(sql.SQL("revoke temporary on database {} from public").format(name))
        owner = admin
        if ordinary:
            role = stack.enter_context(new_role(admin))
            admin.execute(sql.SQL("grant create on database {} to {}").format(name, sql.Identifier(role)))
            owner = stack.enter_context(psycopg.connect(as_role(url, role), autocommit=True))
        migrate(owner)
        pool = OwnerPool(owner, "striped")
        jobs = (pool.apply(JobSettings("default", "one")), pool.apply(JobSettings("default", "two")))
        roles = {}
        for caller in CALLERS:
            roles[caller] = stack.enter_context(new_role(admin))
            if caller in ROLES:
                granted(owner, caller, roles[caller])
        granted(owner, "viewer", roles["viewer with payloads"], payloads=True)
        yield Pool(url, admin, owner, jobs, roles)


def outcome(conn: psycopg.Connection, statement: str | sql.Composed, values: Any = None) -> str:
    """Run it and undo it: `refused`, with Postgres' words, or what else came of it."""
    class_ = ""
    with conn.transaction(force_rollback=True):
        try:
            conn.execute(statement.encode() if isinstance(statement, str) else statement, values)
        except errors.InsufficientPrivilege as error:
            class_ = f"refused: {error.diag.message_primary}"
        except psycopg.Error as error:
            class_ = f"failed: {error.sqlstate} {error.diag.message_primary}"
        if class_:
            raise psycopg.Rollback
    return class_ or "done"
