from __future__ import annotations

import asyncio

import pytest

from stripedjob_operator import queue as module
from stripedjob_operator.queue import RETRY_SECONDS_MAX, WorkQueue


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


def take(queue: WorkQueue[str]) -> str | None:
    """Take what is due now."""
    return queue._next()[0]


def test_a_name_is_there_once_and_in_the_order_of_the_wishes(clock: Clock) -> None:
    queue: WorkQueue[str] = WorkQueue()
    for name in ("b", "a", "b", "a"):
        queue.add(name)
        clock.now += 1
    assert len(queue) == 2
    assert [take(queue), take(queue), take(queue)] == ["b", "a", None]


def test_the_earlier_of_two_wishes_counts(clock: Clock) -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a", 60)
    assert take(queue) is None
    queue.add("a", 5)
    queue.add("a", 30)
    clock.now += 5
    assert take(queue) == "a"
    queue.done("a")
    clock.now += 100
    assert take(queue) is None, "the later wishes went with the first"


def test_never_twice_at_the_same_time(clock: Clock) -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    assert take(queue) == "a"
    queue.add("a")
    assert take(queue) is None
    queue.add("b")
    assert take(queue) == "b"
    clock.now += 1
    queue.done("a")
    assert take(queue) == "a", "what was wished for meanwhile is not lost"


def test_again_after_a_while_unless_something_happens_before(clock: Clock) -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    take(queue)
    queue.done("a", again=10)
    assert take(queue) is None
    queue.add("a")
    assert take(queue) == "a"
    queue.done("a")
    clock.now += 100
    assert take(queue) is None


def test_failures_wait_longer_and_longer_up_to_a_bound(clock: Clock) -> None:
    queue: WorkQueue[str] = WorkQueue()
    waits = []
    for _ in range(8):
        queue.add("a")
        assert take(queue) == "a"
        waits.append(queue.failed("a"))
        clock.now += waits[-1]
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]
    assert waits[-1] == RETRY_SECONDS_MAX
    assert take(queue) == "a"
    queue.done("a")
    queue.add("a")
    take(queue)
    assert queue.failed("a") == 1, "a look that went well forgets the failures"


def test_who_waits_is_told() -> None:
    async def scenario() -> list[str]:
        queue: WorkQueue[str] = WorkQueue()
        waiting = [asyncio.create_task(queue.get()) for _ in range(3)]
        await asyncio.sleep(0)
        for name in "abc":
            queue.add(name)
        queue.add("late", 0.01)
        async with asyncio.timeout(10):
            names = [await one for one in waiting]
            return [*names, await queue.get()]

    assert asyncio.run(scenario()) == ["a", "b", "c", "late"]
