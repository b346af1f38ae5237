"""How much statements read: of each table and index, and where the server can tell, in each step of their plans.

And what they may lock in vain: rows that a plan locks before a join may leave them out.

auto_explain tells of the statements inside functions, too. It comes with Debian's Postgres, not with the wheel's.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg

STATISTICS = """
select relname || ' by ' || place, read from (
    select relname, 'itself' as place, seq_tup_read as read from pg_stat_user_tables where schemaname = 'striped'
    union all select relname, indexrelname, idx_tup_read from pg_stat_user_indexes where schemaname = 'striped'
    union all select relname, 'index', idx_tup_fetch from pg_stat_user_tables where schemaname = 'striped'
    union all select relname, 'blocks of ' || indexrelname, idx_blks_hit + idx_blks_read
        from pg_statio_user_indexes where schemaname = 'striped'
) s"""
TELL = """
load 'auto_explain';
set auto_explain.log_min_duration = 0; set auto_explain.log_nested_statements = on;
set auto_explain.log_analyze = on; set auto_explain.log_timing = off; set auto_explain.log_format = json;
set auto_explain.log_level = notice; set client_min_messages = notice"""
Plan = Mapping[str, Any]
TAKING_ALL = {"Inner", "Left"}  # what is found for a row, where nothing else is asked of it


class Reads:
    """What a session reads; it counts as another sees it once it is told to."""

    def __init__(self, conn: psycopg.Connection) -> None:
        self._conn = conn
        self._plans: list[str] = []
        self.locked_in_vain: list[str] = []  # by the last statement: joins that may leave out what was locked for them
        try:
            conn.execute(TELL)
        except psycopg.errors.UndefinedFile:
            return
        conn.add_notice_handler(lambda notice: self._plans.append(notice.message_primary or ""))

    def of(self, statement: str) -> dict[str, int]:
        """Run it; return how many rows, index entries, blocks and rows of steps it read, by where."""
        before = self._counted()
        self._plans.clear()
        self._conn.execute(statement.encode())
        plans = [json.loads(text[text.index("{") :]) for text in self._plans if "{" in text]
        after = self._counted()
        read = Counter({place: rows - before.get(place, 0) for place, rows in after.items()})
        self.locked_in_vain.clear()
        for plan in plans:
            text = " ".join(plan["Query Text"].split())[:200]
            for step in _steps(plan["Plan"]):
                read[f"{_name(step)} in {text}"] += _rows(step)
            self.locked_in_vain += [f"{_name(join)} in {text}" for join in _leaving_out(plan["Plan"], [])]
        return read

    def _counted(self) -> dict[str, int]:
        self._conn.execute("select pg_stat_force_next_flush()")
        with psycopg.connect(self._conn.info.dsn, autocommit=True) as other:
            return dict(other.execute(STATISTICS.encode()).fetchall())


def _steps(plan: Plan) -> Iterator[Plan]:
    """The scans and joins: what the others go through, these have given them."""
    if any(word in plan["Node Type"] for word in ("Scan", "Join", "Nested Loop")):
        yield plan
    for part in plan.get("Plans", ()):
        yield from _steps(part)


def _leaving_out(step: Plan, above: list[tuple[Plan, bool]]) -> Iterator[Plan]:
    """The joins that may leave out rows which a step below has locked. `above`: nearest first; whether it is inside."""
    if step["Node Type"] == "LockRows":
        for place, (join, inside) in enumerate(one for one in above if "Join Type" in one[0]):
            lateral = place == 0 and inside and join["Node Type"] == "Nested Loop" and join["Join Type"] in TAKING_ALL
            kept = not inside and join["Join Type"] == "Left"
            if "Join Filter" in join or not (lateral or kept):
                yield join
    for part in step.get("Plans", ()):
        relation = part["Parent Relationship"]
        apart = relation in {"InitPlan", "SubPlan"}  # nothing joins what such a one has fetched
        yield from _leaving_out(part, [] if apart else [(step, relation == "Inner"), *above])


def _name(step: Plan) -> str:
    """The kind of a step, what it reads, and by which condition."""
    words = ("Node Type", "Index Name", "Relation Name", "CTE Name", "Join Filter", "Index Cond", "Filter")
    return " ".join(str(step[word]) for word in words if word in step)


def _rows(step: Plan) -> int:
    """Rows that a step went through: those it gave, and those it found not to be meant."""
    removed = sum(rows for word, rows in step.items() if word.startswith("Rows Removed"))
    return int(step["Actual Loops"] * (step["Actual Rows"] + removed))
