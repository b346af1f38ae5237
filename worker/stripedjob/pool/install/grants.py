"""Who had rights keeps them over an upgrade, and gets them on what is new. Used by migrate.py, inside its transaction.

The rule: what is made again has the grants of what it replaces; a new table or view those of the table `stripe`, a new
sequence those of the sequence `fence`. A function may be called by all, as Postgres has it, unless that was changed.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import tuple_row

LIKE = {"table": ("table", "stripe"), "view": ("table", "stripe"), "sequence": ("sequence", "fence")}
QUERY = b"""
with granted as (
    select case c.relkind when 'S' then 'sequence' when 'v' then 'view' else 'table' end kind, c.relname::text name,
        c.oid, c.oid::regclass::text identity, c.relowner owner, c.relacl acl
    from pg_class c where c.relnamespace = (select oid from pg_namespace where nspname = %(schema)s)
        and c.relkind in ('r', 'p', 'v', 'S')
    union all
    select 'function', p.proname::text, p.oid, p.oid::regprocedure::text, p.proowner, p.proacl
    from pg_proc p where p.pronamespace = (select oid from pg_namespace where nspname = %(schema)s) and p.prokind = 'f'
)
select g.kind, g.name, g.oid, g.identity, g.acl is not null, coalesce(array_agg(format('%%s to %%s%%s',
        a.privilege_type, case a.grantee when 0 then 'public' else a.grantee::regrole::text end,
        case when a.is_grantable then ' with grant option' end)) filter (where a.grantee <> g.owner), '{}')
from granted g left join lateral aclexplode(g.acl) a on true group by 1, 2, 3, 4, 5"""


@dataclass(frozen=True, slots=True)
class Granted:
    """One relation or function; `changed`: its grants are not those that Postgres gives by itself.

    `grants` are without the owner's, each as the rest of a GRANT: `SELECT to reader`.
    """

    kind: str
    name: str
    oid: int
    identity: str
    changed: bool
    grants: list[str]


def granted(conn: psycopg.Connection[Any], schema: str) -> list[Granted]:
    """Read who may do what in a schema; the search path has to be such that names are qualified."""
    rows = psycopg.Cursor(conn, row_factory=tuple_row).execute(QUERY, {"schema": schema})
    return [Granted(*row) for row in rows]


def grant_again(conn: psycopg.Connection[Any], schema: str, before: list[Granted], ours: Collection[int]) -> None:
    """Give those of our objects (oids) that were not there before the grants that the rule says."""
    models = {(one.kind, one.name): one for one in before}
    known = {one.oid for one in before}
    for one in granted(conn, schema):
        replaced = models.get((one.kind, one.name))
        model = replaced or (models.get(LIKE[one.kind]) if one.kind in LIKE else None)
        if one.oid in known or one.oid not in ours or model is None or not model.changed:
            continue
        thing = "table" if one.kind == "view" else one.kind
        if thing == "function":
            _run(conn, f"revoke all on function {one.identity} from public")
        for grant in sorted(set(model.grants) - set(one.grants)):
            privilege, _, rest = grant.partition(" to ")
            _run(conn, f"grant {privilege} on {thing} {one.identity} to {rest}")


def _run(conn: psycopg.Connection[Any], statement: str) -> None:
    conn.execute(statement.encode())  # the names are as Postgres itself quotes them
