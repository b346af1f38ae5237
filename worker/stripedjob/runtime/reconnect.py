"""How long to wait for a Postgres that is away, and when to give up. Used by the loops of worker and delegator."""

from collections.abc import Callable

from stripedjob.pool.errors import PoolError

BACKOFF_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)  # between tries of an engine that cannot be reached; then the last again
UNREACHABLE_SECONDS_MAX = 600.0  # without Postgres for so long, the process gives up; whoever started it decides


def backoff(tries: int) -> float:
    """Return the seconds to wait after so many tries that failed."""
    return BACKOFF_SECONDS[min(tries, len(BACKOFF_SECONDS) - 1)]


class Reconnect:
    """Remembers since when Postgres is away."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Begin with a Postgres that is there."""
        self._clock = clock
        self._tries = 0
        self._since: float | None = None

    def connected(self) -> None:
        """Note that it does what it is asked for."""
        self._tries, self._since = 0, None

    def wait_seconds(self, error: PoolError) -> float:
        """Say how long to wait before the next try; raises the error where it has been away for too long."""
        now = self._clock()
        self._since = now if self._since is None else self._since
        if now - self._since > UNREACHABLE_SECONDS_MAX:
            raise error
        self._tries += 1
        return backoff(self._tries - 1)
