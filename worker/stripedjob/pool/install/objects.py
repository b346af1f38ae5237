"""What in a schema is ours: each object that a migration makes is recorded, in the table `striped_object` beside them.

A schema may be shared, such as public: nothing is recorded that somebody else made, and nothing else is ever dropped.
Used by migrate.py and teardown.py, inside their transactions. An object is named as pg_identify_object() names it:
its kind, and its identity with the quoted schema, which a DROP or GRANT takes as it is.
"""

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from stripedjob.pool.names import in_query

TABLE = "striped_object"
# Rows of a table, arrays, sequences of its columns and partitions come and go with their table.
LISTED = """
with here as (select oid from pg_namespace where nspname = %(schema)s), found as (
    select 'pg_class'::regclass::oid classid, c.oid, c.xmin, null digest
    from pg_class c join here on c.relnamespace = here.oid
    where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and not exists (
        select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.objsubid = 0
            and d.deptype in ('i', 'a'))
    union all select 'pg_type'::regclass::oid, t.oid, t.xmin, null from pg_type t join here on t.typnamespace = here.oid
    where t.typtype in ('e', 'd', 'r') or t.typtype = 'c' and exists (
        select from pg_class c where c.oid = t.typrelid and c.relkind = 'c')
    union all select 'pg_proc'::regclass::oid, p.oid, p.xmin,
        md5(concat_ws(' ', p.prosrc, p.prosecdef, p.proconfig))
    from pg_proc p join here on p.pronamespace = here.oid
)
select o.type, o.identity, f.oid, f.xmin = pg_current_xact_id()::xid, f.digest
from found f, pg_identify_object(f.classid, f.oid, 0) o order by o.type, o.identity"""
# What belongs to a table, and is recorded for `stripedjob doctor` alone: it is dropped with its table. Names are
# qualified in definitions, so that they are the same for every session that has our search_path.
PART_KINDS = ("table column", "index", "table constraint", "trigger")
PARTS = """
with ours as (
    select oid from unnest(%(tables)s::oid[]) oid
), found as (
    select 'pg_class'::regclass::oid classid, a.attrelid oid, a.attnum subid, a.xmin,
        concat_ws(' ', format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid)) definition
    from ours join pg_attribute a on a.attrelid = ours.oid and a.attnum > 0 and not a.attisdropped
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    union all select 'pg_class'::regclass::oid, i.indexrelid, 0, c.xmin,
        concat_ws(' ', pg_get_indexdef(i.indexrelid), case when not i.indisvalid then 'invalid' end)
    from ours join pg_index i on i.indrelid = ours.oid join pg_class c on c.oid = i.indexrelid
    union all select 'pg_constraint'::regclass::oid, k.oid, 0, k.xmin, pg_get_constraintdef(k.oid)
    from ours join pg_constraint k on k.conrelid = ours.oid and k.contype <> 'n' -- of Postgres 18; it is in the column
    union all select 'pg_trigger'::regclass::oid, t.oid, 0, t.xmin, pg_get_triggerdef(t.oid) || t.tgenabled::text
    from ours join pg_trigger t on t.tgrelid = ours.oid and not t.tgisinternal
)
select o.type, o.identity, f.oid, f.xmin = pg_current_xact_id()::xid, md5(f.definition)
from found f, pg_identify_object(f.classid, f.oid, f.subid) o order by o.type, o.identity"""
# Dependants of a view, of a default, of a foreign key are named by the table or view that they belong to.
DEPENDANTS = """
with ours(classid, objid) as (
    select case when kind in ('table', 'view', 'sequence', 'materialized view') then 'pg_class'::regclass::oid
        when kind = 'type' then 'pg_type'::regclass::oid else 'pg_proc'::regclass::oid end, oid
    from unnest(%(kinds)s::text[], %(oids)s::oid[]) o(kind, oid)
), with_rows as (
    select * from ours
    union all select 'pg_type'::regclass::oid, t.oid from pg_type t join ours on t.typrelid = ours.objid
    union all select 'pg_type'::regclass::oid, t.typarray from pg_type t
    join ours on ours.objid in (t.typrelid, t.oid) where t.typarray <> 0
), dependants as (
    select case when r.oid is not null or c.conrelid <> 0 or a.oid is not null or t.oid is not null
            then 'pg_class'::regclass::oid else d.classid end classid,
        coalesce(r.ev_class, nullif(c.conrelid, 0), a.adrelid, t.tgrelid, d.objid) objid
    from with_rows o join pg_depend d on d.refclassid = o.classid and d.refobjid = o.objid and d.deptype = 'n'
    left join pg_rewrite r on d.classid = 'pg_rewrite'::regclass and r.oid = d.objid
    left join pg_constraint c on d.classid = 'pg_constraint'::regclass and c.oid = d.objid
    left join pg_attrdef a on d.classid = 'pg_attrdef'::regclass and a.oid = d.objid
    left join pg_trigger t on d.classid = 'pg_trigger'::regclass and t.oid = d.objid
)
select distinct i.type || ' ' || i.identity from dependants d, pg_identify_object(d.classid, d.objid, 0) i
where (d.classid, d.objid) not in (select classid, objid from with_rows)
    and not exists ( -- a sequence, index or toast table of ours
        select from pg_depend p join with_rows o on p.refclassid = o.classid and p.refobjid = o.objid
        where p.classid = d.classid and p.objid = d.objid and p.deptype in ('i', 'a'))
order by 1"""


@dataclass(frozen=True, slots=True)
class Object:
    """A relation, type, function or part of a table. `touched`: by this transaction; `digest`: of text and rights."""

    kind: str
    identity: str
    oid: int
    touched: bool
    digest: str | None

    @property
    def key(self) -> tuple[str, str]:
        """What it is recorded by: oids do not outlive a dump."""
        return self.kind, self.identity

    def __str__(self) -> str:
        """Return its kind and name, as a person knows it."""
        return f"{self.kind} {self.identity}"


def listed(conn: psycopg.Connection[Any], schema: str) -> list[Object]:
    """List what is in a schema, whoever made it."""
    return [Object(*row) for row in _rows(conn, LISTED.encode(), {"schema": schema})]


def parts(conn: psycopg.Connection[Any], schema: str) -> list[Object]:
    """List the columns, indexes, constraints and triggers of our tables, whoever made them."""
    ours = recorded(conn, schema)
    tables = [one.oid for one in listed(conn, schema) if one.kind == "table" and one.key in ours]
    return [Object(*row) for row in _rows(conn, PARTS.encode(), {"tables": tables})]


def recorded_parts(conn: psycopg.Connection[Any], schema: str) -> dict[tuple[str, str], str | None]:
    """Return which of them are ours, with the digests that they were recorded with."""
    return {key: digest for key, digest in _recorded(conn, schema).items() if key[0] in PART_KINDS}


def recorded(conn: psycopg.Connection[Any], schema: str) -> dict[tuple[str, str], str | None]:
    """Return what is ours, with the digest that it was recorded with."""
    return {key: digest for key, digest in _recorded(conn, schema).items() if key[0] not in PART_KINDS}


def record(conn: psycopg.Connection[Any], schema: str, found: dict[tuple[str, str], str | None]) -> None:
    """Write down what is ours, instead of what was written before."""
    conn.execute(sql.SQL("delete from {}").format(sql.Identifier(schema, TABLE)))
    _insert(conn, schema, found)


def record_parts(conn: psycopg.Connection[Any], schema: str, known: dict[tuple[str, str], str | None]) -> None:
    """Write down the parts that this transaction made, and those of `known` as they were."""
    found = parts(conn, schema)
    ours = {one.key: one.digest if one.touched else known[one.key] for one in found if one.touched or one.key in known}
    _insert(conn, schema, ours)


def foreign_dependants(conn: psycopg.Connection[Any], ours: list[Object]) -> list[str]:
    """Name what of others depends on these objects: views, foreign keys, functions, columns."""
    values = {"kinds": [one.kind for one in ours], "oids": [one.oid for one in ours]}
    return [name for (name,) in _rows(conn, DEPENDANTS.encode(), values)]


def _insert(conn: psycopg.Connection[Any], schema: str, found: dict[tuple[str, str], str | None]) -> None:
    query = sql.SQL("insert into {} (kind, identity, digest) select * from unnest(%s::text[], %s::text[], %s::text[])")
    kinds, identities = [kind for kind, _ in found], [identity for _, identity in found]
    conn.execute(query.format(in_query(schema, TABLE)), [kinds, identities, list(found.values())])


def _recorded(conn: psycopg.Connection[Any], schema: str) -> dict[tuple[str, str], str | None]:
    query = sql.SQL("select kind, identity, digest from {}").format(in_query(schema, TABLE))
    return {(kind, identity): digest for kind, identity, digest in _rows(conn, query, {})}


def _rows(conn: psycopg.Connection[Any], query: Any, values: dict[str, Any]) -> list[tuple[Any, ...]]:
    return psycopg.Cursor(conn, row_factory=tuple_row).execute(query, values).fetchall()
