"""Which rows a routine locks, in which order, and where it waits: seen by holding one row after the other before it.

A row that is held by another session shows three things of a routine: whether it waits for that row, passes it over, or
has no use of it; and, where it waits, which rows it has locked by then.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql
from tests.isolation.harness import Stage, Step, Trace, transaction

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import psycopg
    from tests.isolation.harness import Spec
    from tests.isolation.world import World

# What names a job's rows within each table; tables that only grow, `wake`, are locked by who deletes.
NAMES = {
    "job": "''",
    "delegator": "''",
    "flow": "''",
    "turn": "kind",
    "worker": "name",
    "stripe": "resource",
    "unit": "resource || ' ' || state",
    "wake": "resource",
    "dedup": "dedup_id",
    "area": "area",
    "pause": "resource",
    "times": "case when minute = '-infinity' then 'all' else (minute < now() - interval '1 hour')::text end",
}
# What a row that is locked in each way keeps others from, the weakest lock first.
MODES = {"update": "key share", "no key update": "share", "share": "no key update", "key share": "update"}


@dataclass(frozen=True, order=True)
class Row:
    """A row of the scene."""

    table: str
    name: str

    def __str__(self) -> str:
        return f"{self.table} {self.name}".rstrip()


@dataclass(frozen=True)
class Wait:
    """A routine waits for a row, where another session holds it in one of these modes; what it has locked by then."""

    modes: tuple[str, ...]
    held: Mapping[Row, str]


@dataclass(frozen=True)
class Use:
    """What a routine does to rows: how it has locked each in the end, and where it waits."""

    modes: Mapping[Row, str]
    waits: Mapping[Row, Wait]

    def tables(self) -> list[str]:
        """Return the tables in the order in which they are locked; of those passed over as far as it is seen."""
        first: dict[str, set[str]] = {}
        for row, wait in self.waits.items():
            held = {other.table for other in wait.held}
            if row.table not in first or len(held) < len(first[row.table]):
                first[row.table] = held
        tables = {row.table for row in self.modes} | set(first)

        def place(table: str) -> tuple[int, bool, str]:
            before = [
                other for other in first if (other in first[table] if table in first else table not in first[other])
            ]
            return (len(before), table in first, table)

        return sorted(tables, key=place)


def rows_of(conn: psycopg.Connection, job_id: int, mode: str | None = None) -> set[Row]:
    """Return the job's rows, or those of them that can be locked in this mode now."""
    found = set()
    for table, name in NAMES.items():
        query = sql.SQL("select {} from {} where {} = %s").format(
            sql.SQL(name), sql.Identifier("striped", table), sql.Identifier("id" if table == "job" else "job_id")
        )
        locking = sql.SQL("" if mode is None else f" for {mode} skip locked")
        found |= {Row(table, str(value)) for (value,) in conn.execute(query + locking, [job_id])}
    return found


def locked(conn: psycopg.Connection, job_id: int) -> dict[Row, str]:
    """Return the rows that somebody has locked, and how."""
    everything, modes = rows_of(conn, job_id), dict[Row, str]()
    for mode, kept_from in MODES.items():
        for row in everything - rows_of(conn, job_id, kept_from):
            modes.setdefault(row, mode)
    return modes


def use_of(stage: Stage, spec: Spec[World], step: Step[World]) -> Use:
    """Observe a routine: once alone, and for each row of its scene while another session holds that one.

    Those that it has not locked when it was alone are held together, and one by one only if it waits for them then.
    """
    rows = sorted(rows_of(stage.observer, spec.world(stage).id))
    _, alone = _run(stage, spec, step)
    others = [row for row in rows if row not in alone]
    if not _run(stage, spec, step, others)[0]:
        rows = [row for row in rows if row in alone]
    waits = dict[Row, Wait]()
    for row in rows:
        modes, held = list[str](), dict[Row, str]()
        for mode in MODES:
            is_waiting, held_now = _run(stage, spec, step, [row], mode)
            if not is_waiting:
                break
            modes.append(mode)
            held = held_now
        if modes:
            waits[row] = Wait(tuple(modes), held)
    return Use(alone, waits)


def _run(
    stage: Stage, spec: Spec[World], step: Step[World], held: Sequence[Row] = (), mode: str = "update"
) -> tuple[bool, dict[Row, str]]:
    """Run a routine while rows are held; return whether it waits for them, and what it has locked by then.

    Without any, what it has locked at its end; where it does not wait, nobody asks.
    """
    world, trace = spec.world(stage), Trace()
    routine = stage.session("routine")
    try:
        if held:
            _hold(stage.session("holder").conn, world.id, held, mode)
        stage.take_step(spec, world, trace, "routine", transaction(step)[0])
        if held and not routine.busy:
            return False, {}
        found = locked(stage.observer, world.id)
        return routine.busy, {row: mode for row, mode in found.items() if row not in held}
    finally:
        stage.reset("holder", "routine")


def _hold(conn: psycopg.Connection, job_id: int, rows: Sequence[Row], mode: str) -> None:
    conn.execute("begin")
    for table in {row.table for row in rows}:
        query = sql.SQL("select from {} where {} = %s and {} = any(%s) for " + mode).format(
            sql.Identifier("striped", table),
            sql.Identifier("id" if table == "job" else "job_id"),
            sql.SQL(NAMES[table]),
        )
        conn.execute(query, [job_id, [row.name for row in rows if row.table == table]])


@dataclass(frozen=True)
class Edge:
    """A routine holds a row and waits for another, under the turns that it has taken."""

    routine: str
    held: tuple[Row, str]
    wanted: frozenset[tuple[Row, str]]  # the row, in each mode that keeps the routine waiting
    turns: frozenset[Row]

    def __str__(self) -> str:
        return f"{self.routine} holds {self.held[0]} and waits for {min(self.wanted)[0]}"


def edges(uses: Mapping[str, Use]) -> list[Edge]:
    """Return what each routine holds wherever it waits."""
    found = []
    for routine, use in uses.items():
        for row, wait in use.waits.items():
            turns = frozenset(held for held in wait.held if held.table == "turn")
            wanted = frozenset((row, mode) for mode in wait.modes)
            found += [Edge(routine, held, wanted, turns) for held in wait.held.items()]
    return found


def circle(found: list[Edge]) -> list[Edge]:
    """Return sessions that wait for one another in a circle, if there can be any.

    No two of them are under one turn, since only one session has it. Circles of more than two turns are not looked for.
    """
    onward = dict[tuple[Row, str], list[Edge]]()
    for edge in found:
        if not edge.turns:
            onward.setdefault(edge.held, []).append(edge)
    reach = {edge: _reach(edge, onward) for edge in found}
    for edge in found:
        if edge.held in reach[edge]:
            return reach[edge][edge.held]
    under = [edge for edge in found if edge.turns]
    for one, other in itertools.product(under, repeat=2):
        if not one.turns & other.turns and other.held in reach[one] and one.held in reach[other]:
            return [*reach[one][other.held], *reach[other][one.held]]
    return []


def _reach(edge: Edge, onward: Mapping[tuple[Row, str], list[Edge]]) -> dict[tuple[Row, str], list[Edge]]:
    """Return what those may hold whom a session waits for, directly or not, each with those in between."""
    known = {node: [edge] for node in edge.wanted}
    ahead = list(known)
    while ahead:
        node = ahead.pop()
        for after in onward.get(node, []):
            for more in after.wanted - known.keys():
                known[more] = [*known[node], after]
                ahead.append(more)
    return known
