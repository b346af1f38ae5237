"""Pure: units a second, from totals that were seen at different times."""

from collections import deque
from dataclasses import dataclass, field

WINDOW_SECONDS = 10.0
STALE_SECONDS = 120.0  # what nobody has looked at for so long says nothing of now
JOBS_MAX = 10_000


@dataclass(slots=True)
class Rates:
    """The totals of jobs as they were seen lately."""

    _seen: dict[int, deque[tuple[float, int]]] = field(default_factory=dict)

    def per_second(self, job_id: int, total: int, now: float) -> float | None:
        """Note a total; give the rate since one that is about WINDOW_SECONDS old. None: there is nothing to compare.

        A total that has become less is of another pool, and starts over.
        """
        seen = self._seen.pop(job_id, None)
        if seen is None or now - seen[-1][0] > STALE_SECONDS or seen[-1][1] > total:
            seen = deque()
        self._seen[job_id] = seen  # the last one now
        while len(self._seen) > JOBS_MAX:
            del self._seen[next(iter(self._seen))]
        seen.append((now, total))
        while len(seen) > 2 and now - seen[1][0] >= WINDOW_SECONDS:  # noqa: PLR2004 - a first and a last one
            seen.popleft()
        at, before = seen[0]
        return (total - before) / (now - at) if now > at else None
