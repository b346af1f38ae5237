"""The pool's API is frozen: names, arguments and results of its functions are as tests/integration/api_v1.txt says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from stripedjob.pool.install.migrate import migrate
from stripedjob.pool.install.scripts import API, ROOMS, published

if TYPE_CHECKING:
    import pytest

RECORD = Path(__file__).parent / "api_v1.txt"
FROZEN = (
    "a function of api/v1 is not as tests/integration/api_v1.txt has it. Names, arguments and results are frozen, since"
    " workers and producers of the release before call them: add an argument with a default behind the others, or give"
    " the changed function a second name (docs/adr/0016-published-protocol.md). What is new is recorded by"
    " `scripts/test integration -k frozen --renew`"
)
SIGNATURES = """
select proname || '(' || pg_get_function_arguments(oid) || ') -> ' || pg_get_function_result(oid) from pg_proc
where pronamespace = 'striped'::regnamespace and proname = any(%s)"""


def test_signatures_are_frozen(fresh_database: str, request: pytest.FixtureRequest) -> None:
    parts = {one.name: one.part for one in published()}
    with psycopg.connect(fresh_database, autocommit=True) as conn:
        migrate(conn)
        found = [str(line) for (line,) in conn.execute(SIGNATURES, [list(parts)])]
    seen = "".join(sorted(f"{parts[line.partition('(')[0]]}: {line}\n" for line in found))
    if request.config.getoption("--renew"):
        RECORD.write_text(seen)
    assert seen == RECORD.read_text(), FROZEN


def test_whatever_stands_in_a_file_of_the_api_is_published() -> None:
    pool = Path(__file__).parents[2] / "worker" / "stripedjob" / "pool"
    assert API in ROOMS
    made = re.compile(r"^create[^@]* @extschema@\.(\w+)", re.MULTILINE)
    names = {name for file in (pool / API).glob("*.sql") for name in made.findall(file.read_text())}
    assert names == {one.name for one in published()}
