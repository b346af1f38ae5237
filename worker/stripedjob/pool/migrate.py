"""Brings a database to the schema of this version, from whichever version it has; two processes may do so at once.

Called by `stripedjob migrate`, `stripedjob run`, the operator before it starts workers, and the tests. Tables change by
the files migrations/NNNN_name.sql; each is applied once, and recorded in the table `migration` of the schema.
Functions, triggers and views are the files routines/*.sql, each in one place as it is now; whenever a migration is
applied, all of them are replaced. A change of a routine alone comes with a migration that says so, and nothing else.
"""

import re
from dataclasses import dataclass
from importlib.resources import files

import psycopg
from psycopg import sql

from stripedjob.pool.errors import PoolSchemaError

MIGRATION_LOCK = 0x737472697065  # the bytes of "stripe": one migration at a time in a database
SCHEMA_TOKEN = "@extschema@"  # noqa: S105 - not a secret: the token of PostgreSQL's extension scripts
SCHEMA_PATTERN = re.compile(r"[a-z_][a-z0-9_]{0,62}")


@dataclass(frozen=True)
class Migration:
    """One file: its version, which is its number, and its SQL."""

    version: int
    name: str
    text: str


def migrations() -> list[Migration]:
    """All migrations of this version of the package, in order."""
    found = sorted(
        (entry for entry in (files("stripedjob.pool") / "migrations").iterdir() if entry.name.endswith(".sql")),
        key=lambda entry: entry.name,
    )
    return [Migration(int(entry.name[:4]), entry.name[5:-4], entry.read_text()) for entry in found]


def routines() -> str:
    """All functions, triggers and views of this version of the package, as one text."""
    found = sorted((files("stripedjob.pool") / "routines").iterdir(), key=lambda entry: entry.name)
    return "\n".join(entry.read_text() for entry in found if entry.name.endswith(".sql"))


def check_schema_name(schema: str) -> str:
    """Return the name, or raise PoolSchemaError: it stands unquoted in messages and function bodies."""
    if not SCHEMA_PATTERN.fullmatch(schema):
        raise PoolSchemaError(f"schema name {schema!r}: use up to 63 of a-z, 0-9 and _, not starting with a digit")
    return schema


def migrate(conn: psycopg.Connection, schema: str = "striped", *, to_version: int | None = None) -> list[int]:
    """Apply what is missing, in one transaction, and return the versions applied: [] when there was nothing to do.

    `conn` must not be in a transaction. Raises PoolSchemaError where the database has a newer schema than known here.
    """
    check_schema_name(schema)
    wanted = [m for m in migrations() if to_version is None or m.version <= to_version]
    with conn.transaction():
        conn.execute("select pg_advisory_xact_lock(%s)", [MIGRATION_LOCK])
        current = version(conn, schema)
        newest = migrations()[-1].version
        if current > newest:
            raise PoolSchemaError(f'schema "{schema}" is at version {current}, newer than {newest}: upgrade stripedjob')
        if current == 0:
            _create(conn, schema)
        missing = [m for m in wanted if m.version > current]
        for migration in missing:
            _execute(conn, schema, migration.text)
            conn.execute(
                sql.SQL("insert into {}.migration (version, name) values (%s, %s)").format(sql.Identifier(schema)),
                [migration.version, migration.name],
            )
        if missing and missing[-1].version == newest:
            conn.execute("set local check_function_bodies = off")  # they call one another, in any order
            _execute(conn, schema, routines())
    return [m.version for m in missing]


def version(conn: psycopg.Connection, schema: str = "striped") -> int:
    """Return the version of the schema in this database; 0 where there is none."""
    row = conn.execute("select to_regclass(%s)", [f"{schema}.migration"]).fetchone()
    if row is None or row[0] is None:
        return 0
    query = sql.SQL("select coalesce(max(version), 0) from {}.migration").format(sql.Identifier(schema))
    found = conn.execute(query).fetchone()
    return 0 if found is None else int(found[0])


def teardown(conn: psycopg.Connection, schema: str = "striped") -> bool:
    """Drop the schema with all units, jobs and leases in it. False where there was none."""
    check_schema_name(schema)
    with conn.transaction():
        conn.execute("select pg_advisory_xact_lock(%s)", [MIGRATION_LOCK])
        if version(conn, schema) == 0:
            return False
        conn.execute(sql.SQL("drop schema {} cascade").format(sql.Identifier(schema)))
    return True


def _execute(conn: psycopg.Connection, schema: str, text: str) -> None:
    conn.execute(text.replace(SCHEMA_TOKEN, schema).encode())


def _create(conn: psycopg.Connection, schema: str) -> None:
    name = sql.Identifier(schema)
    conn.execute(sql.SQL("create schema if not exists {}").format(name))
    conn.execute(
        sql.SQL(
            "create table if not exists {}.migration"
            " (version int primary key, name text not null, applied_at timestamptz not null default now())"
        ).format(name)
    )
