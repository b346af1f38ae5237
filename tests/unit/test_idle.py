"""How often an idle process asks again."""

from __future__ import annotations

import asyncio

import pytest

from stripedjob.runtime.idle import Idle


@pytest.mark.parametrize(
    ("idle_seconds", "expected"), [(0.0, 0.02), (0.004, 0.02), (0.1, 0.4), (0.5, 2.0), (0.75, 3.0), (3600.0, 3.0)]
)
def test_the_longer_it_is_idle_the_longer_it_sleeps(idle_seconds: float, expected: float) -> None:
    assert slept(idle_seconds, called=False)[0] == pytest.approx(expected)


@pytest.mark.parametrize(("called", "then"), [(True, 0.02), (False, 3.0)])
def test_who_is_called_asks_again_soon(*, called: bool, then: float) -> None:
    assert slept(60.0, called=called) == pytest.approx([3.0, then])


def slept(idle_seconds: float, *, called: bool) -> list[float]:
    """Return how long it sleeps twice, the second time after it was called, or not."""
    now = 100.0
    idle = Idle(lambda: now)
    now += idle_seconds
    found = []

    async def sleep(seconds: float) -> bool:
        found.append(seconds)
        return called

    for _ in range(2):
        assert asyncio.run(idle.sleep(sleep, 3.0)) == called
    return found
