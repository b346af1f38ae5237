"""The roles of the pool as statements: what is printed is what docs/security.md shows, whatever the names hold."""

from __future__ import annotations

import re
from pathlib import Path

import click.testing
import pytest

from stripedjob.cli.rights import NAMES, SEE, grant, revoke
from stripedjob.pool.errors import PoolSchemaError
from stripedjob.pool.install import roles
from stripedjob.pool.install.scripts import published

PAGE = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
HOSTILE = "x\"; drop table t; --'%s"


def shown(command: click.Command, *args: str) -> str:
    done = click.testing.CliRunner().invoke(command, [*args, "--sql"])
    assert done.exit_code == 0, done.output
    return done.output


def test_the_page_shows_what_the_command_prints() -> None:
    assert f"```sql\n{shown(grant, 'enqueuer', 'shop')}```" in PAGE


def test_the_command_and_the_page_have_all_roles() -> None:
    assert set(NAMES) == set(roles.ROLES)
    assert set(SEE) == set(roles.SEE)
    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE) == list(roles.ROLES)


def test_every_part_of_the_api_is_somebodys() -> None:
    granted = {part for parts in roles.ROLES.values() for part in parts} | {roles.PAYLOADS}
    assert {one.part for one in published()} == granted


@pytest.mark.parametrize("job", [None, ("default", HOSTILE)])
def test_names_are_quoted(job: roles.Job | None) -> None:
    for statement in (
        *roles.grant("striped", "person", HOSTILE, job=job),
        *roles.revoke("striped", "person", HOSTILE, job=job),
    ):
        bare = re.sub(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"", "", statement)
        assert "drop" not in bare
        assert "'" not in bare


def test_a_schema_that_none_may_have_is_refused() -> None:
    for one in (roles.grant, roles.revoke):
        with pytest.raises(PoolSchemaError, match="schema name"):
            one("pg_catalog", "viewer", "x")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["worker", "x"], "say with --postgres where the pool is"),
        (["worker", "x", "--payloads", "--sql"], "--payloads is for viewer and person"),
        (["worker", "x", "--job", "listings", "--sql"], "is not NAMESPACE/TYPE"),
        (["owner", "x", "--sql"], "'owner' is not one of"),
    ],
)
def test_mistakes_are_named(args: list[str], words: str) -> None:
    for command in (grant, revoke):
        done = click.testing.CliRunner().invoke(command, args, env={"STRIPEDJOB_POSTGRES_URL": None})
        assert done.exit_code == 2
        assert words in " ".join(done.output.split())


def test_a_limit_comes_first_and_goes_last() -> None:
    assert roles.grant("striped", "worker", "x", job=("a", "b"))[0].startswith("insert into")
    assert roles.revoke("striped", "worker", "x")[-1].startswith("delete from")
