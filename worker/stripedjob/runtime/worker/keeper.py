"""When a worker that is busy looks whether others are to be called for what is ready. Used by its loop."""

from collections.abc import Callable

from stripedjob.runtime.idle import Idle

KEEP_UP_SECONDS = 0.5  # between two looks at most, where nothing is claimed


class Keeper:
    """Remembers when it looked last, and when something was leased last: a claim is a look, too.

    What was put in about then may have called nobody, since this worker was about to come.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """Look at the first opportunity."""
        self._clock = clock
        self._claim = Idle(clock)
        self._again_at = self._at = clock()

    def claimed(self) -> None:
        """Note that something was leased: look soon whether there is more, unless there is another claim before."""
        self._claim.was_busy()
        self._again_at = self._clock() + self._claim.pause_seconds()

    def kept_up(self) -> None:
        """Note that it looks."""
        self._at = self._clock() + KEEP_UP_SECONDS
        self._again_at = self._clock() + self._claim.pause_seconds()

    def due_seconds(self) -> float:
        """Return how long it need not look; 0 or less: it is time."""
        return min(self._at, self._again_at) - self._clock()
