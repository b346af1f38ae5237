"""Brings a database to the schema of this version, from whichever version it has; two processes may do so at once.

Called by `stripedjob migrate`, `stripedjob run`, the operator before it starts workers, and the tests. Tables change by
the files schema/NNNN_name.sql; each is applied once, and recorded in the table `migration` of the schema.
Functions, triggers and views are the files of api/ and lib/, each in one place as it is now; all of them are replaced
whenever a migration is applied, and where what is installed is not what this package has. A change of a routine alone
comes with a migration that says so, and nothing else, so that versions in use at the same time agree.

What is made is recorded in objects.py; who may use it, in grants.py. Others wait for a migration for as long as it
waits for all its locks, LOCK_SECONDS, and what it has to do then.
"""

import logging
import time
from collections.abc import Container
from typing import Any, Final

import psycopg
from psycopg import errors, sql
from psycopg.pq import TransactionStatus

from stripedjob.pool.errors import PoolError, PoolRefusedError, PoolSchemaError
from stripedjob.pool.install import grants, objects
from stripedjob.pool.install.scripts import Migration, check_schema_name, digest, for_schema, migrations, routines
from stripedjob.pool.names import in_query

MIGRATION_LOCK: Final = 0x737472697065  # the bytes of "stripe": one migration at a time in a database
LOCK_SECONDS: Final = 0.8  # below deadlock_timeout: who waits for a migration is never ended for waiting in a circle
LOCK_TRIES: Final = 25
PAUSE_SECONDS: Final = 1.0  # between two tries: for those who queued up behind the last
SHOWN_MAX: Final = 5  # names in one message
PACKAGE = ("package", "routines")  # recorded beside the objects: the digest of the routines that are installed
SERVER = ("package", "server")  # and the major version of the Postgres that wrote the definitions of a table's parts
COLLISIONS = (
    errors.DuplicateTable,
    errors.DuplicateObject,
    errors.DuplicateFunction,
    errors.WrongObjectType,
    errors.InvalidFunctionDefinition,
    errors.InvalidTableDefinition,
)
BLOCKERS = b"""
select a.pid, coalesce(nullif(a.application_name, ''), 'no name'), coalesce(a.state, 'of another role'),
    coalesce(min(a.xact_start), clock_timestamp()) -- null: it has ended meanwhile, or is of another role
from pg_locks l join pg_stat_activity a using (pid)
where l.granted and a.pid <> pg_backend_pid() and a.datname = current_database() and (
    l.locktype = 'advisory' and (l.classid::bigint << 32) + l.objid::bigint = %s
    or l.locktype = 'relation' and l.relation in (
        select oid from pg_class where relnamespace = (select oid from pg_namespace where nspname = %s)))
group by 1, 2, 3 order by min(a.xact_start)"""
logger = logging.getLogger("stripedjob.migrate")


def migrate(conn: psycopg.Connection[Any], schema: str = "striped", *, to_version: int | None = None) -> list[int]:
    """Apply what is missing, in one transaction, and return the versions applied: [] when there was none.

    `conn` is in no transaction. Raises PoolSchemaError where the database has a newer schema than known here;
    PoolRefusedError where objects of others are in the way, or the pool belongs to another role; PoolError where others
    kept a lock.
    """
    check_schema_name(schema)
    if conn.info.transaction_status != TransactionStatus.IDLE:
        raise PoolError("a migration is a transaction of its own: end the one that this connection is in")
    with conn.transaction():
        _set_up(conn)
        if not _is_behind(conn, schema, to_version):
            return []
    for left in reversed(range(LOCK_TRIES)):
        try:
            return _migrate(conn, schema, to_version)
        except (errors.LockNotAvailable, errors.QueryCanceled, errors.DeadlockDetected) as error:
            words = f"schema {schema} is in use by {_blockers(conn, schema)}, which holds a lock that a migration needs"
            if not left:
                raise PoolError(f"{words}; end that transaction and try again") from error
            logger.warning("%s; trying again", words)
            time.sleep(PAUSE_SECONDS)
        except errors.DependentObjectsStillExist as error:
            raise PoolRefusedError(_in_the_way(conn, schema)) from error
        except COLLISIONS as error:
            raise _collision(schema, f"{error.diag.message_primary}") from error
    raise AssertionError  # the last try has returned or raised


def version(conn: psycopg.Connection[Any], schema: str = "striped") -> int:
    """Return the version of the schema in this database; 0 where there is no pool of ours."""
    row = conn.execute("select to_regclass(%s)", [sql.Identifier(schema, objects.TABLE).as_string()]).fetchone()
    if row is None or row[0] is None:
        return 0
    if foreign_owner(conn, schema) is None:
        query = sql.SQL("select coalesce(max(version), 0) from {}").format(sql.Identifier(schema, "migration"))
    else:
        query = sql.SQL("select {}()").format(sql.Identifier(schema, "schema_version"))
    found = conn.execute(query).fetchone()
    return 0 if found is None else int(found[0])


def lock(conn: psycopg.Connection[Any]) -> None:
    """Keep other migrations out of this database until the transaction ends; raises psycopg's LockNotAvailable."""
    _set_up(conn)
    conn.execute("select pg_advisory_xact_lock(%s)", [MIGRATION_LOCK])


def _set_up(conn: psycopg.Connection[Any]) -> None:
    """Have this transaction wait for locks for a short time only, work for any time, and qualify all names."""
    conn.execute(
        "select set_config('lock_timeout', %s, true), set_config('statement_timeout', '0', true),"
        " set_config('search_path', 'pg_catalog', true)",
        [f"{LOCK_SECONDS * 1000:.0f}"],
    )


def foreign_owner(conn: psycopg.Connection[Any], schema: str) -> str | None:
    """Name the role that may change the pool, where this session's may not; None: it may, or there is none yet."""
    query = "select relowner::regrole::text from pg_class where oid = to_regclass(%s) and not pg_has_role(relowner, %s)"
    row = conn.execute(query, [sql.Identifier(schema, objects.TABLE).as_string(), "usage"]).fetchone()
    return None if row is None else str(row[0])


def _missing(conn: psycopg.Connection[Any], schema: str, to_version: int | None) -> list[Migration]:
    current, known = version(conn, schema), migrations()
    if current > known[-1].version:
        raise PoolSchemaError(
            f'schema "{schema}" is at version {current}, newer than {known[-1].version}: upgrade stripedjob'
        )
    return [m for m in known if m.version > current and (to_version is None or m.version <= to_version)]


def _is_behind(conn: psycopg.Connection[Any], schema: str, to_version: int | None) -> bool:
    """Return whether there is anything to do: a migration, or routines that are not those of this package.

    Raises PoolRefusedError where a migration is missing and this role may not apply it.
    """
    missing, owner = _missing(conn, schema, to_version), foreign_owner(conn, schema)
    if missing and owner is not None:
        raise PoolRefusedError(
            f"schema {schema} lacks version {missing[0].version}, and belongs to {owner}: run `stripedjob migrate` as"
            " that role"
        )
    return bool(missing) or (to_version is None and owner is None and _has_drifted(conn, schema))


def _has_drifted(conn: psycopg.Connection[Any], schema: str) -> bool:
    known = objects.recorded(conn, schema)
    if known.get(PACKAGE) != digest(routines()):
        return True
    there = {one.key: one.digest for one in objects.listed(conn, schema)}
    return any(there.get(key) != recorded for key, recorded in known.items() if recorded and key[0] != PACKAGE[0])


def _migrate(conn: psycopg.Connection[Any], schema: str, to_version: int | None) -> list[int]:
    with conn.transaction():
        lock(conn)
        if not _is_behind(conn, schema, to_version):
            return []
        missing = _missing(conn, schema, to_version)
        there, granted = objects.listed(conn, schema), grants.granted(conn, schema)
        is_new = version(conn, schema) == 0
        known = _create(conn, schema) if is_new else objects.recorded(conn, schema)
        before = grants.Before(granted, {one.oid for one in there if one.key in known})
        _lock_tables(conn, there, known)
        say = logging.DEBUG if is_new else logging.INFO  # what takes no time is no news
        for migration in missing:
            logger.log(say, "schema %s: version %d, %s", schema, migration.version, migration.name)
            conn.execute(for_schema(migration.text, schema))
            query = sql.SQL("insert into {} (version, name) values (%s, %s)")
            values = [migration.version, migration.name]
            conn.execute(query.format(in_query(schema, "migration")), values)
        whole = not missing or missing[-1].version == migrations()[-1].version
        if whole:
            logger.log(say, "schema %s: functions, triggers and views", schema)
            _install(conn, schema)
        known_parts = {} if is_new else objects.recorded_parts(conn, schema)
        _record(conn, schema, {one.oid for one in there}, known, whole=whole)
        objects.record_parts(conn, schema, known_parts)
        grants.grant_again(conn, schema, before, {one.oid for one in objects.listed(conn, schema) if one.touched})
    return [m.version for m in missing]


def _lock_tables(conn: psycopg.Connection[Any], there: list[objects.Object], known: Container[tuple[str, str]]) -> None:
    """Have all tables and views of ours before the first is changed; raises QueryCanceled where that takes too long."""
    ours = [one.identity for one in there if one.key in known and one.kind in ("table", "view")]
    if not ours:
        return
    conn.execute("select set_config('statement_timeout', %s, true)", [f"{LOCK_SECONDS * 1000:.0f}"])
    conn.execute(f"lock table {', '.join(ours)} in access exclusive mode".encode())  # as Postgres itself quotes them
    conn.execute("select set_config('statement_timeout', '0', true)")


def _create(conn: psycopg.Connection[Any], schema: str) -> dict[tuple[str, str], str | None]:
    """Make the tables of the records; gives what is recorded besides: the schema, where it is ours as well."""
    is_ours = conn.execute("select 1 from pg_namespace where nspname = %s", [schema]).fetchone() is None
    if is_ours:
        conn.execute(sql.SQL("create schema {}").format(sql.Identifier(schema)))
    for table, columns in (
        ("migration", "version int primary key, name text not null, applied_at timestamptz not null default now()"),
        (objects.TABLE, "kind text, identity text, digest text, primary key (kind, identity)"),
    ):
        query = sql.SQL("create table {} ({})")
        conn.execute(query.format(sql.Identifier(schema, table), sql.SQL(columns)))
    return {("schema", sql.Identifier(schema).as_string()): None} if is_ours else {}


def _install(conn: psycopg.Connection[Any], schema: str) -> None:
    """Replace all routines: twice, since they call one another in any order, and the second time is checked."""
    text = for_schema(routines(), schema)
    for checked in ("off", "on"):
        conn.execute("select set_config('check_function_bodies', %s, true)", [checked])
        conn.execute(text)
    grants.secure(conn, schema)


def _record(
    conn: psycopg.Connection[Any],
    schema: str,
    before: set[int],
    known: dict[tuple[str, str], str | None],
    *,
    whole: bool,
) -> None:
    """Record what this transaction made. What was there before and is not recorded is somebody else's: refuse.

    Where a migration stopped at an older version, routines of that version are ours and could not be recorded.
    """
    found = objects.listed(conn, schema)
    taken = [one for one in found if one.touched and one.oid in before and one.key not in known]
    if taken and (PACKAGE in known or not any(kind == "table" for kind, _ in known)):
        raise _collision(schema, _some([str(one) for one in taken]) + " already there")
    ours = {one.key: one.digest if one.touched else known[one.key] for one in found if one.touched or one.key in known}
    beside = {key: value for key, value in known.items() if key[0] in ("schema", PACKAGE[0])}
    package: dict[tuple[str, str], str | None] = {
        PACKAGE: digest(routines()),
        SERVER: str(conn.info.server_version // 10_000),
    }
    objects.record(conn, schema, ours | beside | (package if whole else {}))


def _collision(schema: str, words: str) -> PoolRefusedError:
    return PoolRefusedError(
        f"schema {schema} has objects of others under names that the pool needs: {words}; set pool.schema to another"
    )


def _in_the_way(conn: psycopg.Connection[Any], schema: str) -> str:
    with conn.transaction():
        _set_up(conn)
        known = objects.recorded(conn, schema)
        ours = [one for one in objects.listed(conn, schema) if one.key in known]
        names = objects.foreign_dependants(conn, ours)
    return (
        f"schema {schema}: {_some(names)} depend on what this version has to make again; nothing was changed."
        " Drop them, migrate, and make them again"
    )


def _blockers(conn: psycopg.Connection[Any], schema: str) -> str:
    rows = conn.execute(BLOCKERS, [MIGRATION_LOCK, schema]).fetchall()
    return _some([f"pid {pid} ({name}, {state}, since {began:%H:%M:%S})" for pid, name, state, began in rows])


def _some(names: list[str]) -> str:
    more = len(names) - SHOWN_MAX
    return ", ".join(names[:SHOWN_MAX]) + (f" and {more} more" if more > 0 else "") if names else "somebody"
