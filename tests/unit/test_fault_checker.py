"""The checker of histories: a good one passes, and each way in which one can be bad is found under its rule."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.faults.bag import Bag
from tests.faults.checker import check, recovered
from tests.faults.history import (
    Change,
    Effect,
    Enqueued,
    Execution,
    Exit,
    History,
    Outcome,
    Pause,
    Promises,
    Recorded,
    Throttle,
)

if TYPE_CHECKING:
    from collections.abc import Callable

STRICT = Promises(limit=2, transactional=True, strict_order=True, throttle=Throttle(2, 2, 1.0))


def leased(resource: str, fence: int, at: float, worker: int = 1) -> Change:
    return Change(resource, "assigned", "leased", 0, fence, worker, "", at, at)


def assigned(resource: str, at: float) -> Change:
    return Change(resource, "ready", "assigned", 0, 0, 1, "", at, at)


def released(resource: str, fence: int, at: float) -> Change:
    return Change(resource, "leased", "ready", fence, fence, 0, "", at, at)


def good() -> History:
    """Units 1 and 2 of resource a, worked under two leases; the first one's process was killed with unit 2."""
    return History(
        STRICT,
        enqueued=[
            Enqueued(1, "a", 0.0, 0.1, Outcome.OK),
            Enqueued(2, "a", 0.2, 0.3, Outcome.OK),
            Enqueued(3, "a", 0.2, 0.3, Outcome.FAIL),
        ],
        effects=[Effect(1, "a", 7, 2.1), Effect(2, "a", 8, 6.1)],
        recorded=[Recorded(1, 2.1), Recorded(2, 6.1)],
        executions=[
            Execution(1, "a", 7, 100, 2.0, 2.05),
            Execution(2, "a", 7, 100, 2.2, None),
            Execution(2, "a", 8, 101, 6.0, 6.05),
        ],
        changes=[
            assigned("a", 0.9),
            leased("a", 7, 1.0),
            released("a", 7, 4.0),
            assigned("a", 4.9),
            leased("a", 8, 5.0, 2),
            released("a", 8, 7.0),
        ],
        left={"pending": 0},
        total_done=2,
    )


def test_a_good_history_breaks_nothing() -> None:
    assert check(good()) == []


def lose(history: History) -> None:
    history.recorded.pop()
    history.effects.pop()
    history.total_done = 1


def record_what_was_rolled_back(history: History) -> None:
    history.recorded.append(Recorded(3, 6.2))
    history.effects.append(Effect(3, "a", 8, 6.2))
    history.executions.append(Execution(3, "a", 8, 101, 6.15, 6.2))
    history.total_done = 3


def record_what_nobody_put_in(history: History) -> None:
    record_what_was_rolled_back(history)
    history.enqueued.pop()


def have_an_effect_twice(history: History) -> None:
    history.effects.append(Effect(2, "a", 8, 6.2))


def record_twice(history: History) -> None:
    history.recorded.append(Recorded(2, 6.2))
    history.total_done = 3


def record_without_an_effect(history: History) -> None:
    history.effects.pop()


def have_an_effect_that_is_not_recorded(history: History) -> None:
    history.recorded.pop()
    history.enqueued[1] = replace(history.enqueued[1], outcome=Outcome.UNKNOWN)
    history.total_done = 1


def record_what_was_not_handled(history: History) -> None:
    history.executions.pop()


def count_one_too_many(history: History) -> None:
    history.total_done = 3


def lease_over_a_lease(history: History) -> None:
    history.changes[2:4] = []
    history.changes[2] = Change("a", "leased", "leased", 7, 8, 2, "", 5.0, 5.0)


def let_a_fence_go_back(history: History) -> None:
    history.changes.append(leased("a", 6, 8.0))


def commit_after_the_lease(history: History) -> None:
    history.effects[0] = replace(history.effects[0], at=4.5)


def commit_under_no_lease(history: History) -> None:
    history.effects[0] = replace(history.effects[0], fence=5)


def begin_after_the_lease(history: History) -> None:
    history.executions.insert(2, Execution(2, "a", 7, 100, 4.5, 4.6))


def go_on_beside_the_next(history: History) -> None:
    history.executions[1] = replace(history.executions[1], ended=5.5)


def turn_the_order(history: History) -> None:
    history.effects[0], history.effects[1] = Effect(2, "a", 7, 2.1), Effect(1, "a", 8, 6.1)


def let_three_work(history: History) -> None:
    history.changes += [leased(name, 10 + number, 8.0, number) for number, name in enumerate("bcd")]


def have_three_out(history: History) -> None:
    history.changes += [assigned(name, 8.0 + number) for number, name in enumerate("bcd")]


def start_three_at_once(history: History) -> None:
    for number, name in enumerate("bcd"):
        history.changes += [assigned(name, 8.0), leased(name, 10 + number, 8.0), released(name, 10 + number, 8.0)]


def do_nothing(history: History) -> None:
    history.recorded.clear()


def end_by_itself(history: History) -> None:
    history.exits.append(Exit("one", "exit code 1"))


def leave_something(history: History) -> None:
    history.left["dead"] = 1


@pytest.mark.parametrize(
    ("spoil", "rule"),
    [
        (lose, "lost"),
        (record_what_was_rolled_back, "unborn"),
        (record_what_nobody_put_in, "unborn"),
        (have_an_effect_twice, "twice"),
        (record_twice, "twice"),
        (record_without_an_effect, "torn"),
        (have_an_effect_that_is_not_recorded, "torn"),
        (record_what_was_not_handled, "unhandled"),
        (count_one_too_many, "miscounted"),
        (lease_over_a_lease, "two leases"),
        (let_a_fence_go_back, "fence back"),
        (commit_after_the_lease, "stale effect"),
        (commit_under_no_lease, "stale effect"),
        (begin_after_the_lease, "late"),
        (go_on_beside_the_next, "overlap"),
        (turn_the_order, "order"),
        (let_three_work, "cap"),
        (have_three_out, "outstanding"),
        (start_three_at_once, "rate"),
        (do_nothing, "idle"),
        (end_by_itself, "ended by itself"),
        (leave_something, "left"),
    ],
)
def test_a_bad_history_is_found(spoil: Callable[[History], None], rule: str) -> None:
    history = good()
    spoil(history)
    assert rule in {found.rule for found in check(history)}


def test_a_process_that_was_stopped_could_not_know() -> None:
    history = good()
    go_on_beside_the_next(history)
    history.pauses = [Pause(100, 2.3, 5.2)]
    assert check(history) == []


def test_what_was_enqueued_at_the_same_time_may_come_in_either_order() -> None:
    history = good()
    turn_the_order(history)
    history.enqueued[0] = replace(history.enqueued[0], ended=0.25)
    assert "order" not in {found.rule for found in check(history)}


def test_an_answer_that_was_lost_leaves_both_open() -> None:
    history = good()
    history.enqueued[1] = replace(history.enqueued[1], outcome=Outcome.UNKNOWN)
    assert check(history) == []
    lose(history)
    assert check(history) == []


def test_full_speed_is_half_of_what_comes_after() -> None:
    healed_at = 100.0
    after = [Effect(n, "a", 1, healed_at + 3 + n / 10) for n in range(170)]  # ten a second, from the third second on
    before = [Effect(n, "a", 1, healed_at - 10 + n / 100) for n in range(1000)]
    assert recovered([*before, *after], healed_at, settled=8, until=20) == 3
    assert recovered(before, healed_at, settled=8, until=20) == 20


def test_every_kind_of_fault_comes_before_one_comes_again() -> None:
    bag = Bag("abc", random.Random(1))
    came: list[str] = []
    for _ in range(6):
        kind = bag.next(lambda kind: kind != "c" or len(came) > 1)
        assert kind is not None
        bag.take_out(kind)
        came.append(kind)
    assert sorted(came[:3]) == sorted(came[3:]) == ["a", "b", "c"]
    bag.leave_out("ab")
    assert {bag.next(lambda _: True) for _ in range(5)} == {"c"}
