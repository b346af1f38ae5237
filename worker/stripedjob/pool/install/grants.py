"""Whose is what: all of a pool is its owner's alone, but for what is granted. Used by migrate.py, in its transaction.

The rules: the functions of the API run with the owner's rights and a search path of Postgres' own. What is new may be
used by nobody else, whatever the database's default privileges say. What is made again has the grants of what it
replaces; a new function of the API those of the others of its part, a new table or view those of the table `stripe`, a
new sequence those of the sequence `fence`. What was there before keeps its grants, also those to PUBLIC.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

import psycopg
from psycopg.rows import tuple_row

from stripedjob.pool.install.scripts import for_schema, published

LIKE = {"table": ("table", "stripe"), "view": ("table", "stripe"), "sequence": ("sequence", "fence")}
SEARCH_PATH = "pg_catalog, pg_temp"  # temporary objects last: never instead of Postgres' own
# A sequence of a column and a partition belong to a table; of types, those that others could use in tables of their
# own.
QUERY = b"""
with granted as (
    select case c.relkind when 'S' then 'sequence' when 'v' then 'view' else 'table' end kind, c.relname::text name,
        c.oid, coalesce(d.refobjid, i.inhparent, c.oid) whole, c.oid::regclass::text identity,
        c.relowner owner, c.relacl acl
    from pg_class c left join pg_depend d on c.relkind = 'S' and d.classid = 'pg_class'::regclass and d.objid = c.oid
        and d.refclassid = 'pg_class'::regclass and d.deptype in ('i', 'a')
    left join pg_inherits i on c.relispartition and i.inhrelid = c.oid
    where c.relnamespace = (select oid from pg_namespace where nspname = %(schema)s)
        and c.relkind in ('r', 'p', 'v', 'S')
    union all
    select 'function', p.proname::text, p.oid, p.oid, p.oid::regprocedure::text, p.proowner,
        coalesce(p.proacl, acldefault('f', p.proowner))
    from pg_proc p where p.pronamespace = (select oid from pg_namespace where nspname = %(schema)s) and p.prokind = 'f'
    union all
    select 'type', t.typname::text, t.oid, t.oid, t.oid::regtype::text, t.typowner,
        coalesce(t.typacl, acldefault('T', t.typowner))
    from pg_type t left join pg_class c on c.oid = t.typrelid
    where t.typnamespace = (select oid from pg_namespace where nspname = %(schema)s)
        and (t.typtype = 'e' or c.relkind = 'c')
)
select g.kind, g.name, g.oid, g.whole, g.identity, coalesce(array_agg(format('%%s to %%s%%s',
        a.privilege_type, case a.grantee when 0 then 'public' else a.grantee::regrole::text end,
        case when a.is_grantable then ' with grant option' end)) filter (where a.grantee <> g.owner), '{}')
from granted g left join lateral aclexplode(g.acl) a on true group by 1, 2, 3, 4, 5"""


@dataclass(frozen=True, slots=True)
class Granted:
    """One relation, function or type.

    `whole`: the oid of the table that a column's sequence or a partition belongs to, else its own. `grants` are without
    the owner's, each as the rest of a GRANT: `SELECT to reader`.
    """

    kind: str
    name: str
    oid: int
    whole: int
    identity: str
    grants: list[str]


class Before(NamedTuple):
    """What was granted in the schema before, and which objects (oids) in it were ours."""

    granted: list[Granted]
    ours: Collection[int]


def granted(conn: psycopg.Connection[Any], schema: str) -> list[Granted]:
    """Read who may do what in a schema; the search path has to be such that names are qualified."""
    rows = psycopg.Cursor(conn, row_factory=tuple_row).execute(QUERY, {"schema": schema})
    return [Granted(*row) for row in rows]


def secure(conn: psycopg.Connection[Any], schema: str) -> None:
    """Have the functions of the API run with the rights of the pool's owner, as they are not when they are made."""
    how = f"security definer set search_path = {SEARCH_PATH}"
    statements = [f"alter function {one.signature} {how}" for one in published() if not one.as_caller]
    conn.execute(for_schema(";".join(statements), schema))


def grant_again(conn: psycopg.Connection[Any], schema: str, before: Before, made: Collection[int]) -> None:
    """Give our objects (oids) that were not there before the grants that the rules say, and take away all others."""
    models = {(one.kind, one.name): one for one in before.granted if one.whole in before.ours}
    known = {one.oid for one in before.granted}
    statements = []  # the names are as Postgres itself quotes them
    for one in granted(conn, schema):
        if one.oid in known or one.whole not in made:
            continue
        model = models.get((one.kind, one.name)) or _like(models, one)
        wanted = set(model.grants if model else [])
        thing = "table" if one.kind == "view" else one.kind
        for grant in sorted(set(one.grants) - wanted):
            privilege, _, role = grant.removesuffix(" with grant option").partition(" to ")
            statements.append(f"revoke {privilege} on {thing} {one.identity} from {role}")
        for grant in sorted(wanted - set(one.grants)):
            privilege, _, role = grant.partition(" to ")
            statements.append(f"grant {privilege} on {thing} {one.identity} to {role}")
    conn.execute(";".join(statements).encode())


def _like(models: dict[tuple[str, str], Granted], new: Granted) -> Granted | None:
    """Return what something new has its grants of: of a function another of its part, which are granted together."""
    if new.kind != "function":
        return models.get(LIKE.get(new.kind, ("", "")))
    parts = {one.name: one.part for one in published()}
    others = (("function", name) for name, part in parts.items() if part == parts.get(new.name))
    return next((models[other] for other in others if other in models), None)
