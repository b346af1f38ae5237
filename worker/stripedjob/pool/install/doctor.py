"""What is wrong with a pool or its server, and what to do: `stripedjob doctor`. It reads, and changes nothing.

Each check is a function that gives findings; one that may not read what it needs says so as a finding of its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import psycopg
from psycopg import errors, sql
from psycopg.rows import dict_row

from stripedjob.pool.install import migrate, objects, roles
from stripedjob.pool.install.scripts import digest, migrations, routines

Level = Literal["problem", "warning", "note"]
SERVER_VERSION_MIN = 15
SNAPSHOT_SECONDS_MAX = 300  # an open transaction keeps rows that are gone from being removed
DEAD_ROWS_MIN = 100_000
DEAD_ROWS_RATIO = 1.0  # to the rows that are alive
FREEZE_AGE_MAX = 1_000_000_000  # transactions; Postgres stops at twice as many
CONNECTIONS_RATIO = 0.9


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found: `problem`: it does harm now; `warning`: it will; `note`: worth knowing."""

    level: Level
    subject: str
    what: str
    remedy: str = ""


def examine(conn: psycopg.Connection[Any], schema: str) -> list[Finding]:
    """Return what was found, the worst first; [] where all is well. `conn`: in autocommit mode, as of connect()."""
    found: list[Finding] = []
    for check in (_server, _version, _rights, _drift, _parts, _vacuum, _snapshots, _isolation, _connections, _leases):
        try:
            found += check(conn, schema)
        except errors.InsufficientPrivilege as error:
            subject = check.__name__.removeprefix("_")
            found.append(Finding("note", subject, f"this role may not look: {error.diag.message_primary}"))
        except (errors.UndefinedTable, errors.UndefinedColumn):  # _version says so
            continue
    return sorted(found, key=lambda one: ("problem", "warning", "note").index(one.level))


def _server(conn: psycopg.Connection[Any], _schema: str) -> Iterator[Finding]:
    major = conn.info.server_version // 10_000
    if major < SERVER_VERSION_MIN:
        yield Finding("problem", "server", f"Postgres {major}", f"use {SERVER_VERSION_MIN} or later")
    row = _row(
        conn,
        "select pg_is_in_recovery() standby, age(datfrozenxid) age from pg_database where datname = current_database()",
    )
    if row["standby"]:
        yield Finding("problem", "server", "it is a stand-by: nothing can be written", "name the primary in the URL")
    if row["age"] > FREEZE_AGE_MAX:
        words = f"its oldest row is {row['age']:,} transactions old; at 2,000,000,000 Postgres stops"
        yield Finding("problem", "server", words, "find what holds vacuum up (below), and run `vacuum freeze`")


def _version(conn: psycopg.Connection[Any], schema: str) -> Iterator[Finding]:
    there, known = migrate.version(conn, schema), migrations()[-1].version
    if there == 0:
        yield Finding("problem", "schema", f"there is no pool in schema {schema}", "run `stripedjob migrate FILE`")
    elif there < known:
        words = f"it is at version {there}, this stripedjob at {known}"
        yield Finding("problem", "schema", words, "run `stripedjob migrate FILE`")
    elif there > known:
        words = f"it is at version {there}, this stripedjob knows {known}"
        yield Finding("warning", "schema", words, "upgrade stripedjob here")
    elif objects.recorded(conn, schema).get(migrate.PACKAGE) != digest(routines()):
        words = "its functions are those of another stripedjob of the same version"
        yield Finding("warning", "schema", words, "run `stripedjob migrate FILE` with the one that your workers have")


def _rights(conn: psycopg.Connection[Any], schema: str) -> Iterator[Finding]:
    if migrate.foreign_owner(conn, schema) is None:
        return
    me = str(_row(conn, "select current_user::text me")["me"])
    for role, lacks in roles.partial(conn, schema, me).items():
        words = f"{me} is {role} in part, and lacks {lacks[0]}" + (f" and {len(lacks) - 1} more" * (len(lacks) > 1))
        yield Finding("problem", "rights", words, f"run `stripedjob grant {role} {me}` as the pool's owner")


def _drift(conn: psycopg.Connection[Any], schema: str) -> Iterator[Finding]:
    there = {one.key: one.digest for one in objects.listed(conn, schema)}
    yield from _compared(objects.recorded(conn, schema), there, "run `stripedjob migrate FILE`, which makes it right")


def _parts(conn: psycopg.Connection[Any], schema: str) -> Iterator[Finding]:
    known = objects.recorded_parts(conn, schema)
    there = {one.key: one.digest for one in objects.parts(conn, schema)}
    if objects.recorded(conn, schema).get(migrate.SERVER) != str(conn.info.server_version // 10_000):
        known = dict.fromkeys(known)  # another Postgres may write the same definition in other words
    yield from _compared(known, there, "make it again as the files in pool/schema have it")


def _compared(
    known: dict[tuple[str, str], str | None], there: dict[tuple[str, str], str | None], remedy: str
) -> Iterator[Finding]:
    for key, recorded in known.items():
        if key[0] in ("schema", migrate.PACKAGE[0]):
            continue
        if key not in there:
            yield Finding("problem", "drift", f"{' '.join(key)} is gone", remedy)
        elif recorded and there[key] != recorded:
            yield Finding("problem", "drift", f"{' '.join(key)} was changed by hand", remedy)


def _vacuum(conn: psycopg.Connection[Any], schema: str) -> Iterator[Finding]:
    for name in ("autovacuum", "track_counts"):
        if _row(conn, f"select current_setting('{name}') value")["value"] == "off":
            yield Finding("problem", "vacuum", f"{name} is off: tables and indexes grow without bound", "turn it on")
    query = """
        select c.relname, n_live_tup live, n_dead_tup dead, pg_size_pretty(pg_total_relation_size(c.oid)) size,
            coalesce(last_autovacuum, last_vacuum)::text last,
            c.reloptions && '{autovacuum_enabled=false,autovacuum_enabled=off,autovacuum_enabled=0}' disabled
        from pg_class c join pg_stat_user_tables s on s.relid = c.oid
        where c.relnamespace = (select oid from pg_namespace where nspname = %s) order by c.relname"""
    for row in _rows(conn, query, [schema]):
        if row["disabled"]:
            remedy = f"alter table {sql.Identifier(schema, row['relname']).as_string()} reset (autovacuum_enabled)"
            yield Finding("problem", "vacuum", f"it is disabled for table {row['relname']}", remedy)
        if row["dead"] > max(DEAD_ROWS_MIN, row["live"] * DEAD_ROWS_RATIO):
            words = f"table {row['relname']} has {row['dead']:,} dead rows beside {row['live']:,}, {row['size']}"
            since = f"vacuumed last at {row['last']}" if row["last"] else "never vacuumed"
            yield Finding("warning", "bloat", f"{words}; {since}", "see what holds vacuum up, below; else vacuum it")


def _snapshots(conn: psycopg.Connection[Any], _schema: str) -> Iterator[Finding]:
    query = """
        select pid, coalesce(nullif(application_name, ''), 'no name') name, coalesce(state, 'of another role') state,
            extract(epoch from clock_timestamp() - xact_start)::int seconds
        from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
            and xact_start < clock_timestamp() - make_interval(secs => %s) order by xact_start limit 5"""
    for row in _rows(conn, query, [SNAPSHOT_SECONDS_MAX]):
        words = f"pid {row['pid']} ({row['name']}, {row['state']}) has a transaction open for {row['seconds']:,} s"
        remedy = f"end it: what is done cannot be vacuumed away; `select pg_terminate_backend({row['pid']})`"
        yield Finding("warning", "snapshot", words, remedy)
    for row in _rows(conn, "select gid, prepared::text at from pg_prepared_xacts where database = current_database()"):
        words = f"a prepared transaction {row['gid']} since {row['at']}"
        yield Finding("warning", "snapshot", words, "commit or roll it back by `commit prepared`, `rollback prepared`")
    query = "select slot_name name from pg_replication_slots where not active and num_nonnulls(xmin, catalog_xmin) > 0"
    for row in _rows(conn, query):
        words = f"replication slot {row['name']} is not in use and keeps rows from being removed"
        yield Finding("warning", "snapshot", words, f"select pg_drop_replication_slot('{row['name']}')")


def _isolation(conn: psycopg.Connection[Any], _schema: str) -> Iterator[Finding]:
    # Our sessions set theirs themselves; reset_val is what those of applications begin with.
    row = _row(
        conn,
        """
        select max(reset_val) filter (where name = 'default_transaction_isolation') isolation,
            max(reset_val) filter (where name = 'default_transaction_read_only') read_only from pg_settings""",
    )
    if row["isolation"] != "read committed":
        words = f"sessions begin with {row['isolation']}: enqueues of applications may fail and have to be repeated"
        yield Finding("warning", "isolation", words, "set default_transaction_isolation to read committed for them")
    if row["read_only"] == "on":
        words = "sessions begin read-only: applications cannot enqueue"
        yield Finding("warning", "isolation", words, "set default_transaction_read_only to off for them")


def _connections(conn: psycopg.Connection[Any], _schema: str) -> Iterator[Finding]:
    row = _row(
        conn,
        """
        select (select count(*) from pg_stat_activity where backend_type = 'client backend') used,
            current_setting('max_connections')::int most""",
    )
    if row["used"] > row["most"] * CONNECTIONS_RATIO:
        words = f"{row['used']} of {row['most']} connections are in use"
        yield Finding("warning", "connections", words, "raise max_connections, or put a pooler in front; docs/scale.md")


def _leases(conn: psycopg.Connection[Any], schema: str) -> Iterator[Finding]:
    query = sql.SQL("""
        select j.namespace || '/' || j.job_type job, count(*) n from {} w join {} j on j.id = w.job_id
        where w.expires_at < clock_timestamp() - interval '1 minute' group by 1 order by 1""")
    tables = [sql.Identifier(schema, name) for name in ("worker", "job")]
    for row in _rows(conn, query.format(*tables)):
        words = f"job {row['job']}: {row['n']} workers have been dead for a minute, and nobody took their leases back"
        yield Finding("warning", "leases", words, "is a worker or the operator running that reaches this database?")


def _rows(conn: psycopg.Connection[Any], query: str | sql.Composed, values: list[Any] | None = None) -> list[Any]:
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query.encode() if isinstance(query, str) else query, values).fetchall()


def _row(conn: psycopg.Connection[Any], query: str) -> Any:
    return _rows(conn, query)[0]
