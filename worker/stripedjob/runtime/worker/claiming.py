"""When a worker claims next, and whether it does upkeep before. No I/O; asked by its loop."""

from collections.abc import Callable, Sequence

from stripedjob.pool.types import Lease

UPKEEP_SECONDS = 0.1  # between two calls of upkeep(), where claims bring as much as they may
SHORT_SECONDS = 0.05  # after a claim that brought less than it might, while something is at work
# Between two claims, the first of which brought all that there was. No longer than who has settled is expected for by
# others (lib/notify.sql).
GATHER_SECONDS = 0.01


class Claiming:
    """Remembers what the last claim brought.

    What comes one by one is gathered: a claim costs about as much for one unit as for ten.
    """

    def __init__(self, clock: Callable[[], float], *, gathers: bool) -> None:
        """Claim at the first opportunity; `gathers`: after a claim that took all, let more come first."""
        self.claimable = True  # as far as is known: an idle worker asks with one query before it claims
        self._clock, self._may_gather = clock, gathers
        self._is_short = False  # the last claim brought less than it might
        self._has_gathered = self._gathers = False  # before the last claim; since
        self._has_left = False  # of a resource that it leased there were more units
        self._upkeep_at = self._again_at = self._gathered_at = clock()

    def is_due(self, *, is_busy: bool) -> bool:
        """Tell whether there may be something to claim; `is_busy`: something is at work."""
        return self.claimable and not (self._is_short and (not is_busy or self._clock() < self._again_at))

    def is_upkeep_due(self) -> bool:
        """Tell whether the claim is to do upkeep first: at once after one that brought too little."""
        return self._clock() >= self._upkeep_at

    def claimed(self, leases: Sequence[Lease], resources: int, asked: float) -> None:
        """Note what a claim of so many resources, asked for at that time, has brought."""
        now = self._clock()
        self._has_gathered, self._gathers = self._gathers and bool(leases), False
        self._is_short = len(leases) < resources
        self._has_left = any(lease.more for lease in leases)
        self._again_at = now + SHORT_SECONDS
        self._upkeep_at = now if self._is_short else now + UPKEEP_SECONDS
        if self._may_gather and leases and self._is_short and not self._has_left:
            self._gathered_at = asked + GATHER_SECONDS

    def rest(self) -> float:
        """Note that nothing is at work, and return how many seconds units may come for before they are claimed.

        0 or less: it asks for them at once.
        """
        self._is_short = False
        seconds = self._gathered_at - self._clock()
        self._gathers = seconds > 0
        return seconds

    def comes_again(self) -> bool:
        """Tell whether to claim without asking: what was waited for last time has come, or there were more units."""
        has_left, self._has_left = self._has_left, False
        return has_left or (self._gathers and self._has_gathered)
