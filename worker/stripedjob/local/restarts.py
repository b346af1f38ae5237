"""Pure: whether processes that died are replaced, and when. The supervisor asks; times are arguments, in seconds."""

import os
from dataclasses import dataclass

EARLY_SECONDS = 10.0  # what dies so young did not get to work
EARLY_DEATHS_MAX = 5  # in a row, of a cause that does not pass by itself
BACKOFF_SECONDS, BACKOFF_SECONDS_MAX = 0.25, 30.0
FATAL_CODES = {2, os.EX_NOPERM, os.EX_CONFIG}  # the next one would end in the same way


@dataclass(slots=True)
class Restarts:
    """Counts early deaths in a row; those that come while a start is put off have the cause of the one before."""

    _deaths: int = 0
    _unexplained: int = 0
    _not_before: float = 0.0

    def may_start(self, now: float) -> bool:
        """Return whether it is time for the next start."""
        return now >= self._not_before

    def died(self, code: int, lived_seconds: float, now: float) -> bool:
        """Take note of a death by its exit code, or minus its signal; False: there is no use in another start.

        A signal (a kill for memory, a crash) and 69 (Postgres or the lock backend is away) pass by themselves, however
        often they come.
        """
        if code in FATAL_CODES:
            return False
        if lived_seconds >= EARLY_SECONDS or now < self._not_before:
            return True
        if now > self._not_before + EARLY_SECONDS:
            self._deaths = self._unexplained = 0
        self._deaths += 1
        self._not_before = now + min(BACKOFF_SECONDS * 2.0 ** min(self._deaths, 10), BACKOFF_SECONDS_MAX)
        self._unexplained = 0 if code < 0 or code == os.EX_UNAVAILABLE else self._unexplained + 1
        return self._unexplained < EARLY_DEATHS_MAX
