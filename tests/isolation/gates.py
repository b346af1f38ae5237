"""Gates within routines: before each statement of a routine in PL/pgSQL a session can be made to wait.

The routines of a test's database are the project's own text with a gate before each statement. A gate neither changes
FOUND nor ROW_COUNT, which a `perform` would. A session that was not told to stop goes through all of them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psycopg

COUNT = 0  # in place of the number of a gate: all that are passed are counted
GATE_LOCK = 7357  # first key of the advisory lock that a session waits for at a gate; the second is its process id
GATE = "if public.gate() then end if; "
BODY = re.compile(r"(?<=\nbegin\n).*?(?=\nend\n\$\$;)", re.DOTALL)
# A statement begins a line, after a line that ends one or opens a block; within SQL no line ends like that. Only those
# that look at a table, or call a routine that does, matter to others.
STATEMENT = re.compile(
    r"(?:(?<=;\n)|(?<=\bthen\n)|(?<=\bloop\n)|(?<=\belse\n)|\A)( *)"
    r"(?=(?:select|perform|insert|update|delete|with|for|execute|return query)\b|[^\n]*@extschema@\.)(?!--|raise\b)"
)
FUNCTION = f"""
create sequence public.passed;
create or replace function public.gate() returns boolean language plpgsql as $$
declare
    steps int := nullif(current_setting('gate.steps', true), '');
begin
    if steps is null then
        return true;
    elsif steps = {COUNT} then
        perform nextval('public.passed'); -- which a rollback leaves as it is
        return true;
    end if;
    perform set_config('gate.steps', nullif(steps - 1, 0)::text, false);
    if steps = 1 then
        perform pg_advisory_lock({GATE_LOCK}, pg_backend_pid());
        perform pg_advisory_unlock({GATE_LOCK}, pg_backend_pid());
    end if;
    return true;
end
$$"""


def with_gates(routines: str) -> str:
    """Put a gate before each statement of each PL/pgSQL routine."""
    return BODY.sub(lambda body: STATEMENT.sub(rf"\1{GATE}", body[0]), routines)


def stop_at(conn: psycopg.Connection, gate: int) -> None:
    """Let this session stop at its n-th gate from now, the first being 1, if somebody holds it; or COUNT."""
    conn.execute("select set_config('gate.steps', %s, false)", [str(gate)])


def take_count(conn: psycopg.Connection) -> int:
    """Return how many gates a counting session has passed, and reset the count."""
    query = "select is_called::int * last_value, setval('public.passed', 1, false) from public.passed"
    row = conn.execute(query).fetchone()
    assert row
    return int(row[0])
