"""A job's rows in all tables, kept so that they can be put back, and as a text by which two states are compared.

Making a scene call by call, and working off what an order has left, take most of the time of an order; many orders
begin with the same scene, and most end in a state that another one has ended in.
"""

from __future__ import annotations

import psycopg
from psycopg import sql

TABLES = """
select c.relname, array_agg(a.attname::text order by a.attnum),
    array_agg(a.atttypid = 'timestamptz'::regtype order by a.attnum)
from pg_class c join pg_attribute a on a.attrelid = c.oid
where c.relnamespace = any(array['striped', 'public']::regnamespace[]) and c.relkind = 'r'
    and attnum > 0 and not attisdropped
group by c.oid, c.relname
having 'job_id' = any(array_agg(a.attname)) or c.relname = 'job' order by c.relname"""
RESTORE = """
create function {}() returns void language plpgsql as $$
begin
    {};
end
$$"""
DRAWN = {"fence", "term", "n"}  # columns whose values differ each time
IDS = {"id", "unit_id", "worker_id"}  # those of rows that were not there before likewise


class Snapshot:
    """A job's rows as they are now. Over `restorer` they are put back, where triggers and foreign keys rest."""

    def __init__(self, conn: psycopg.Connection, restorer: psycopg.Connection, job_id: int) -> None:
        """Keep them in tables of the schema `saved`, with a function there that puts them back: its plans are kept."""
        self._conn, self._restorer = conn, restorer
        saves, restores, states = list[sql.Composable](), list[sql.Composable](), list[sql.Composable]()
        ids = sql.Identifier("saved", f"ids_{job_id}")
        for table, columns, times in conn.execute(TABLES).fetchall():
            where = sql.Identifier("public" if table == "journal" else "striped", table)
            copy = sql.Identifier("saved", f"{table}_{job_id}")
            key = sql.SQL("{} = {}").format(sql.Identifier("id" if table == "job" else "job_id"), job_id)
            saves.append(
                sql.SQL("create table {} as select *, clock_timestamp() saved_at from {} where {}").format(
                    copy, where, key
                )
            )
            names = sql.SQL(", ").join(map(sql.Identifier, columns))
            shifted = sql.SQL(", ").join(
                sql.SQL("{} + (clock_timestamp() - saved_at)" if is_time else "{}").format(sql.Identifier(column))
                for column, is_time in zip(columns, times, strict=True)
            )
            restores.append(sql.SQL("delete from {} where {}").format(where, key))
            restores.append(
                sql.SQL("insert into {} ({}) overriding system value select {} from {}").format(
                    where, names, shifted, copy
                )
            )
            states.append(_state(where, key, dict(zip(columns, times, strict=True)), ids))
        conn.execute("create schema if not exists saved")
        conn.execute(sql.SQL("; ").join(saves))
        drawn = sql.SQL("select id from striped.{} where job_id = {}")
        both = sql.SQL(" union ").join(drawn.format(sql.Identifier(table), job_id) for table in ("unit", "worker"))
        conn.execute(sql.SQL("create table {} as {}").format(ids, both))
        restore = sql.Identifier("saved", f"restore_{job_id}")
        conn.execute(sql.SQL(RESTORE).format(restore, sql.SQL("; ").join(restores)))
        self._restore = sql.SQL("select {}()").format(restore).as_bytes(conn)
        self._state = sql.SQL("select concat_ws(chr(10), {})").format(sql.SQL(", ").join(states)).as_bytes(conn)

    def restore(self) -> None:
        """Put the rows back, with their times as far from now as they were when they were kept."""
        self._restorer.execute(self._restore)
        self._conn.execute("reset all")  # where it found something last: what is put back has the ids that it had

    def state(self) -> str:
        """Return what decisions rest on: no moments, but whether they are past; no ids that were drawn since."""
        row = self._conn.execute(self._state).fetchone()
        assert row is not None
        return str(row[0])


def _state(table: sql.Identifier, key: sql.Composable, columns: dict[str, bool], ids: sql.Identifier) -> sql.Composed:
    shown = [_shown(column, ids, is_time=is_time) for column, is_time in columns.items() if column not in DRAWN]
    order = next(name for name in ("unit_id", "id", "resource", "area", "job_id") if name in columns)
    return sql.SQL("(select string_agg(concat_ws(',', {}), ';' order by {}) from {} where {})").format(
        sql.SQL(", ").join(shown), sql.Identifier(order), table, key
    )


def _shown(column: str, ids: sql.Identifier, *, is_time: bool) -> sql.Composed:
    name = sql.Identifier(column)
    if is_time:
        text = "case when isfinite({0}) then ({0} > clock_timestamp())::text else coalesce({0}::text, '-') end"
        return sql.SQL(text).format(name)
    if column in IDS:
        text = "case when {0} is null then '-' when {0} in (select id from {1}) then {0}::text else 'new' end"
        return sql.SQL(text).format(name, ids)
    return sql.SQL("coalesce({}::text, '-')").format(name)
