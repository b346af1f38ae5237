"""When a process asks the pool again. Used by the loops of worker and delegator.

A call (NOTIFY) can be missed for a moment after work: whether somebody has to be called is decided at the beginning of
a commit or up to 10 ms before, and what it brings is seen at its end, when the worker that was about to come may have
come and gone. So who was busy until just now asks again soon, then less and less often, until it is as often as the
pool says. And a worker that has just leased something, and may be at it for long, looks as soon for the others.
"""

from collections.abc import Awaitable, Callable

SOON_SECONDS = 0.02  # lib/notify.sql: a worker that has settled is expected for 10 ms, and a decision is good for 10
GROWTH = 4.0  # times as long as it has been idle


class Idle:
    """Remembers since when there is nothing to do, or nothing new."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Begin idle."""
        self._clock = clock
        self._since = clock()

    def was_busy(self) -> None:
        """Note that there was something to do until now."""
        self._since = self._clock()

    def pause_seconds(self) -> float:
        """Return how long to wait before asking again."""
        return max(SOON_SECONDS, GROWTH * (self._clock() - self._since))

    async def sleep(self, sleep: Callable[[float], Awaitable[bool]], seconds_max: float) -> bool:
        """Sleep by this function, which says whether somebody has called, for at most so long."""
        called = await sleep(min(seconds_max, self.pause_seconds()))
        if called:
            self.was_busy()
        return called
