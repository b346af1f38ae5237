"""What plpgsql_check says of the pool's routines: nothing. On Debian's Postgres, whose packages have that extension."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psycopg

LINT = """
select p.oid::regprocedure::text, r.lineno, r.level, r.message, r.detail
from pg_proc p join pg_language l on l.oid = p.prolang
left join pg_trigger t on t.tgfoid = p.oid
cross join lateral plpgsql_check_function_tb(p.oid, coalesce(t.tgrelid, 0),
    newtable => case when p.proname = 'wake_inserted' then 'inserted' end,
    extra_warnings => true, security_warnings => true) r
where p.pronamespace = 'striped'::regnamespace and l.lanname = 'plpgsql'
    and r.message <> 'target type is different type than source type' -- of literals, which are cast once
order by 1, 2"""


def test_the_linter_finds_nothing(db: psycopg.Connection) -> None:
    db.execute("create extension plpgsql_check")
    assert db.execute(LINT.encode()).fetchall() == []
    db.execute("create function striped.wrong() returns int language plpgsql as 'begin return nothing; end'")
    assert [row[0] for row in db.execute(LINT.encode())] == ["striped.wrong()"]
