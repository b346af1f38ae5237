"""When an idle process asks the pool again. Used by the loops of worker and delegator.

A call (NOTIFY) can be missed for a moment after work: whether somebody has to be called is decided at the beginning of
a commit, and what it brings is seen at its end, when the worker that was about to come may have come and gone. So who
was busy until just now asks again soon, then less and less often, until it is as often as the pool says.
"""

from collections.abc import Awaitable, Callable

SOON_SECONDS = 0.02
GROWTH = 4.0  # times as long as it has been idle


class Idle:
    """Remembers since when there is nothing to do."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Begin idle."""
        self._clock = clock
        self._since = clock()

    def was_busy(self) -> None:
        """Note that there was something to do until now."""
        self._since = self._clock()

    async def sleep(self, sleep: Callable[[float], Awaitable[bool]], seconds_max: float) -> bool:
        """Sleep by this function, which says whether somebody has called, for at most so long."""
        called = await sleep(min(seconds_max, max(SOON_SECONDS, GROWTH * (self._clock() - self._since))))
        if called:
            self.was_busy()
        return called
