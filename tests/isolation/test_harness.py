"""The harness itself: what it must see, and what it must not let pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from tests.isolation.harness import InfeasibleError, Spec, Stage, Step, transaction
from tests.isolation.plays import play_all
from tests.isolation.report import report
from tests.isolation.world import MUTEX, World

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

REMEMBER = "select set_config('striped.wakes', 'something', false)"


@dataclass
class Table:
    """Two rows, `left` and `right`, and a fault where one of them was changed twice."""

    conn: psycopg.Connection
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.conn.execute("drop table if exists public.side; create table public.side (name text, n int default 0)")
        self.conn.execute("insert into public.side values ('left'), ('right')")

    def watch(self) -> list[str]:
        return []

    def judge(self) -> list[str]:
        return [f"{name} is {n}" for name, n in self.conn.execute("select name, n from public.side where n > 1")]


def change(name: str) -> Step[Table]:
    query = "update public.side set n = n + 1 where name = %s"
    return Step(name, lambda _, conn: conn.execute(query, [name]).statusmessage)


def spec(one: Sequence[Step[Table]], other: Sequence[Step[Table]], prompt: str = "") -> Spec[Table]:
    return Spec(
        "sides", lambda stage: Table(stage.observer), {"one": one, "other": other}, prompt=frozenset(prompt.split())
    )


def test_a_step_that_waits_is_seen_and_goes_on(stage: Stage) -> None:
    sides = spec(transaction(change("left")), transaction(change("left"), end="rollback"))
    assert stage.play(sides, ("one", "other", "one", "other")).lines == [
        "one.left → UPDATE 1",
        "other.left waits for one",
        "one.commit → COMMIT",
        "other.left → UPDATE 1",
        "other.rollback → ROLLBACK",
    ]


def test_a_session_that_should_never_wait_is_a_fault(stage: Stage) -> None:
    trace = stage.play(spec(transaction(change("left")), [change("left")], prompt="other"), ("one", "other", "one"))
    assert trace.faults == ["other.left waits for one, and never should", "left is 2"]


def test_what_must_hold_is_judged_in_every_order(stage: Stage) -> None:
    played = play_all(stage, spec([change("left")], [change("left")]))
    assert {order: trace.faults for order, trace in played.items()} == {
        ("one", "other"): ["left is 2"],
        ("other", "one"): ["left is 2"],
    }
    assert "--order 'other one'" in report("sides", 2, {("other", "one"): played["other", "one"]})


def test_nobody_remembers_anything_of_another_order(stage: Stage) -> None:
    """A session that looks from where it found something last would not see rows that are put back."""
    remembers = Step[Table]("remembers", lambda _, conn: conn.execute(REMEMBER).fetchone())
    stage.play(spec([remembers], []), ("one",))
    world = World.of(stage, MUTEX, lambda _: None)
    world.conn.execute(REMEMBER)
    world.again()
    for conn in (stage.session("one").conn, world.conn):
        assert conn.execute("select current_setting('striped.wakes')").fetchone() == ("",)


def test_a_deadlock_is_found_in_the_orders_that_have_it_and_others_are_played(stage: Stage) -> None:
    sides = spec(transaction(change("left"), change("right")), transaction(change("right"), change("left")))
    played = play_all(stage, sides)
    dead = {order for order, trace in played.items() if any("40P01" in fault for fault in trace.faults)}
    assert ("one", "other", "one", "other", "one", "other") in dead
    assert ("one", "one", "one", "other", "other", "other") in set(played) - dead
    assert ("one", "one", "other", "other", "other", "one") not in played


def test_a_step_of_a_session_that_waits_cannot_be_taken(stage: Stage) -> None:
    with pytest.raises(InfeasibleError, match="one other other"):
        stage.play(spec(transaction(change("left")), transaction(change("left"))), ("one", "other", "other", "one"))


def test_who_still_waits_at_the_end_is_a_fault(stage: Stage) -> None:
    stays = spec(transaction(change("left"))[:1], [change("left")])
    assert stage.play(stays, ("one", "other")).faults == ["other.left still waits after the last step"]
