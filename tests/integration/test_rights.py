"""Who may call what: every role of the pool against every function, table and type that is in its schema.

What is there is read from the catalogue, so that nothing new is forgotten.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.support.engines import new_database
from tests.support.rights import CALLERS, Pool, outcome, pool_of

from stripedjob.pool.install.roles import ROLES, missing
from stripedjob.pool.install.scripts import published

if TYPE_CHECKING:
    from collections.abc import Iterator

PARTS = {one.name: one.part for one in published()}
FUNCTIONS = """
select proname, prorettype = 'trigger'::regtype, array(select format_type(t, null) from unnest(proargtypes) t),
    prosecdef, proconfig from pg_proc where pronamespace = 'striped'::regnamespace"""
TRIED = {
    "r": ("select from {}", "insert into {} default values", "delete from {}", "truncate {}", "lock table {}"),
    "p": ("select from {}", "insert into {} default values", "delete from {}", "truncate {}", "lock table {}"),
    "v": ("select from {}",),
    "S": ("select nextval('{}')", "select setval('{}', 1)", "select last_value from {}"),
}


@pytest.fixture(scope="module", params=["superuser", "ordinary owner"])
def pool(request: pytest.FixtureRequest, postgres_url: str) -> Iterator[Pool]:
    with new_database(postgres_url) as url, pool_of(url, ordinary=request.param == "ordinary owner") as made:
        yield made


@pytest.mark.parametrize("caller", CALLERS)
def test_each_function_is_for_its_roles_alone(pool: Pool, caller: str) -> None:
    wrong = []
    with pool.connect(caller) as conn:
        for name, is_trigger, types, _, _ in pool.admin.execute(FUNCTIONS).fetchall():
            nulls = ", ".join(f"null::{one}" for one in types)
            found = outcome(conn, f"select striped.{name}({nulls})")
            refused = f"refused: permission denied for {'schema striped' if caller == 'nobody' else f'function {name}'}"
            if not is_trigger and (found == refused) == (PARTS.get(name) in CALLERS[caller]):
                wrong.append(f"{name}: {found}")
    assert not wrong


@pytest.mark.parametrize("caller", CALLERS)
def test_no_table_view_sequence_or_type_is_for_anybody_but_the_owner(pool: Pool, caller: str) -> None:
    wrong = []
    query = """select relname, relkind::text from pg_class
        where relnamespace = 'striped'::regnamespace and relkind in ('r', 'v', 'S', 'p', 'm')"""
    with pool.connect(caller) as conn:
        for name, kind in pool.admin.execute(query).fetchall():
            found = [outcome(conn, one.format(f"striped.{name}")) for one in TRIED[kind]]
            wrong += [f"{name}: {one}" for one in found if not one.startswith("refused")]
    usable = pool.admin.execute(
        "select typname from pg_type where typnamespace = 'striped'::regnamespace and typtype = 'e'"
        " and has_type_privilege(%s, oid, 'usage')",
        [pool.roles[caller]],
    )
    assert not wrong + usable.fetchall()


def test_functions_of_the_api_run_as_the_owner_with_a_path_of_postgres_own(pool: Pool) -> None:
    as_caller = {one.name for one in published() if one.as_caller}
    for name, _, _, as_owner, settings in pool.admin.execute(FUNCTIONS).fetchall():
        assert as_owner == ((name in PARTS and name not in as_caller) or name == "call_somebody"), name
        assert settings == (["search_path=pg_catalog, pg_temp"] if as_owner else None), name


def test_the_owner_may_do_everything_and_what_is_missing_is_named(pool: Pool) -> None:
    for role in ROLES:
        assert missing(pool.admin, "striped", role, pool.owner.info.user) == []
        assert missing(pool.admin, "striped", role, pool.roles[role]) == []
    lacks = missing(pool.admin, "striped", "viewer", pool.roles["nobody"])
    assert lacks[0] == "usage on schema striped"
    assert 'execute on function "striped".explain(int, text)' in lacks
    assert len(missing(pool.admin, "striped", "worker", pool.roles["delegator"])) > 10
