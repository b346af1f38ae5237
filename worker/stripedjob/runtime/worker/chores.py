"""What a worker does for its job now and then: remove what was kept for long enough, and say how long units took."""

import math
import random
from collections.abc import Callable

from stripedjob.pool.client.worker import WorkerPool
from stripedjob.runtime.worker.timing import Timing

CLEAN_SECONDS = 30.0  # between two calls of clean(), of which the pool heeds one in so much time from all workers
CLEAN_SECONDS_MORE = 0.5  # where there is more to remove
TIMES_SECONDS = 10.0  # between two calls of note_times(), where there is anything to say


class Chores:
    """The chores of one worker; its loop calls it once a turn."""

    def __init__(self, job_id: int, timing: Timing, clock: Callable[[], float]) -> None:
        """Take whose chores they are; the first clean() comes at a time of its own, not that of all workers."""
        self._job_id, self._timing, self._clock = job_id, timing, clock
        self._clean_at = clock() + random.uniform(0, CLEAN_SECONDS)  # noqa: S311 - not for secrets
        self._times_at = clock() + random.uniform(0, TIMES_SECONDS)  # noqa: S311 - as above

    async def do(self, pool: WorkerPool) -> None:
        """Do what is due."""
        if self._clock() >= self._clean_at:
            more = await pool.clean(self._job_id)
            self._clean_at = self._clock() + (CLEAN_SECONDS_MORE if more else CLEAN_SECONDS)
        if self._clock() >= self._times_at:
            await self.note_times(pool)

    async def note_times(self, pool: WorkerPool) -> None:
        """Say how long units took since it was said last. What is said again, as an answer was lost, counts twice."""
        self._times_at = self._clock() + TIMES_SECONDS
        news = self._timing.news()
        if news is not None:
            await pool.note_times(self._job_id, news)
            self._timing.recorded(news)

    def rest_seconds(self) -> float:
        """Say how long the worker may sleep before it has something to say; infinity: it has nothing."""
        return math.inf if self._timing.news() is None else max(0.0, self._times_at - self._clock())
