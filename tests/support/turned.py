"""A database in which the pool's time stands still, and is turned by a test."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psycopg

# A sequence, so that it is the time for all, whatever they see.
CLOCK = """
create sequence if not exists public.turned minvalue 0;
create or replace function striped.clock() returns timestamptz language sql volatile as
    $$ select timestamptz '2030-01-01 12:00 Z' + {ms} * interval '1 ms' $$"""


def turned(conn: psycopg.Connection) -> None:
    """Stop the time at noon of a day."""
    conn.execute(CLOCK.format(ms="pg_sequence_last_value('public.turned')").encode())
    turn(conn, 0)


def slow(conn: psycopg.Connection, ms: int) -> None:
    """Let the time go on from noon, and by so much whenever somebody looks what time it is."""
    turned(conn)
    conn.execute(CLOCK.format(ms="nextval('public.turned')").encode())
    conn.execute(f"alter sequence public.turned increment {ms}".encode())


def turn(conn: psycopg.Connection, ms: int) -> None:
    """Let it be so many milliseconds after noon."""
    conn.execute("select setval('public.turned', %s)", [ms])
