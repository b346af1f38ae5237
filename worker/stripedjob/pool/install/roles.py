"""The roles of the pool as grants, and what of them a database role lacks. Called by `stripedjob grant` and `revoke`.

A role is the right to call the functions of some parts of the API. Where it is granted for some jobs alone, rows of the
table `permission` say so, and the functions ask them. Statements are pure text, so that they can be shown and run by
hand; the pool's owner runs them, or a superuser.
"""

from collections.abc import Collection
from typing import Any, Final

import psycopg
from psycopg import sql

from stripedjob.pool.install.scripts import check_schema_name, for_schema, published

COMMON: Final = "common"  # a part that every role has, for all jobs
PAYLOADS: Final = "payloads"
ROLES: Final[dict[str, tuple[str, ...]]] = {
    "enqueuer": (COMMON, "enqueuer"),
    "worker": (COMMON, "locks", "schedule", "upkeep", "worker"),
    "delegator": (COMMON, "delegator"),
    "operator": (COMMON, "operator", "page", "schedule", "upkeep", "viewer"),
    "viewer": (COMMON, "page", "viewer"),
    "person": (COMMON, "page", "person", "viewer"),
    "locker": (COMMON, "locks"),
}
SEE: Final = ("viewer", "person")  # the roles that may have the part `payloads` besides
Job = tuple[str, str]  # namespace and type


def parts_of(role: str, *, payloads: bool = False) -> tuple[str, ...]:
    """Return the parts of the API that a role of the pool may use."""
    return (*ROLES[role], PAYLOADS) if payloads else ROLES[role]


def grant(schema: str, role: str, to: str, *, job: Job | None = None, payloads: bool = False) -> list[str]:
    """Return the statements that make a database role one of the pool's: for all jobs, or for this one as well."""
    parts = parts_of(role, payloads=payloads)
    statements = [
        f"grant usage on schema {_quoted(check_schema_name(schema))} to {_quoted(to)}",
        *(f"grant execute on function {names} to {_quoted(to)}" for names in _functions(schema, parts)),
    ]
    if job is not None:
        limited = [part for part in parts if part != COMMON]
        # The row without a job keeps the role limited when the others are taken away.
        places = [(part, *place) for part in limited for place in (("", ""), job)]
        row = sql.SQL("({}::regrole, {}, {}, {})")
        limit = sql.SQL("insert into {} (role, part, namespace, job_type)\nvalues {}\non conflict do nothing").format(
            sql.Identifier(schema, "permission"),
            sql.SQL(",\n    ").join(row.format(_quoted(to), *place) for place in places),
        )
        statements.insert(0, limit.as_string())  # first, so that there is no moment without the limit
    return statements


def revoke(
    schema: str, role: str, to: str, *, job: Job | None = None, payloads: bool = False, keep: Collection[str] = ()
) -> list[str]:
    """Return the statements that take a role of the pool from a database role, or what it may do with one job.

    `payloads`: these alone. `keep`: parts that it has by other roles too. USAGE of the schema, with which nothing can
    be done, stays.
    """
    check_schema_name(schema)
    parts = [PAYLOADS] if payloads else [part for part in parts_of(role, payloads=role in SEE) if part not in keep]
    unlimit = sql.SQL("delete from {} where role = {}::regrole and part in ({})").format(
        sql.Identifier(schema, "permission"), _quoted(to), sql.SQL(", ").join(map(sql.Literal, parts))
    )
    if job is not None:
        return [(unlimit + sql.SQL(" and namespace = {} and job_type = {}").format(*job)).as_string()]
    functions = _functions(schema, parts)
    revoked = [f"revoke execute on function {names} from {_quoted(to)}" for names in functions]
    return [*revoked, unlimit.as_string()]  # the limit goes last


def missing(conn: psycopg.Connection[Any], schema: str, role: str, to: str) -> list[str]:
    """Name what a database role lacks to be a role of the pool: functions, or USAGE of the schema. [] where nothing.

    A role that may use some jobs alone lacks nothing by that.
    """
    wanted = [one.signature for one in published() if one.part in ROLES[role]]
    signatures = [for_schema(one, schema).decode() for one in wanted]
    query = """
        select 'usage on schema ' || quote_ident(%(schema)s) where not has_schema_privilege(%(to)s, %(schema)s, 'usage')
        union all select 'execute on function ' || f from unnest(%(signatures)s::text[]) f
        where to_regprocedure(f) is null or not has_function_privilege(%(to)s, to_regprocedure(f), 'execute')"""
    rows = conn.execute(query, {"schema": schema, "to": to, "signatures": signatures})
    return [str(name) for (name,) in rows]


def partial(conn: psycopg.Connection[Any], schema: str, to: str) -> dict[str, list[str]]:
    """Give, for each role of the pool that a database role has in part, what it lacks, as missing() names it."""
    found = {}
    for role in ROLES:
        lacks = missing(conn, schema, role, to)
        own = "locks" if role == "locker" else role
        signatures = [for_schema(one.signature, schema).decode() for one in published() if one.part == own]
        if lacks and any(f"execute on function {one}" not in lacks for one in signatures):
            found[role] = lacks
    return found


def kept(conn: psycopg.Connection[Any], schema: str, role: str, to: str) -> set[str]:
    """Return the parts that a database role still needs when one of the pool's roles is taken from it."""
    others = [one for one in ROLES if not set(ROLES[one]) <= set(ROLES[role]) and not missing(conn, schema, one, to)]
    return {part for one in others for part in ROLES[one]}


def _functions(schema: str, parts: Collection[str]) -> list[str]:
    """Return the signatures of each part, as GRANT takes them."""
    by_part: dict[str, list[str]] = {}
    for one in published():
        by_part.setdefault(one.part, []).append(for_schema(one.signature, schema).decode())
    return [",\n    ".join(by_part[part]) for part in by_part if part in parts]


def _quoted(*names: str) -> str:
    return sql.Identifier(*names).as_string()
