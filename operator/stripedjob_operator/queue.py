"""What is to be reconciled, and when: each name at most once, never twice at the same time."""

import asyncio
import heapq
import time
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
RETRY_SECONDS = 1.0
RETRY_SECONDS_MAX = 30.0


class WorkQueue(Generic[K]):
    """Names with the time at which they are due; the earlier of two wishes for a name counts."""

    def __init__(self) -> None:
        """Begin empty."""
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._number = 0
        self._busy: set[K] = set()
        self._failures: dict[K, int] = {}
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        """Count the names that wait."""
        return len(self._due)

    def add(self, key: K, after: float = 0.0) -> None:
        """Have `key` reconciled after so many seconds."""
        at = time.monotonic() + after
        if self._due.get(key, float("inf")) <= at:
            return
        self._due[key] = at
        self._push(at, key)

    async def get(self) -> K:
        """Wait for a name that is due and not being reconciled; to be ended with `done`."""
        while True:
            self._changed.clear()
            key, wait = self._next()
            if key is not None:
                return key
            try:
                async with asyncio.timeout(wait):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def done(self, key: K, *, again: float | None = None) -> None:
        """End a reconcile that went well; `again`: after so many seconds once more."""
        self._failures.pop(key, None)
        self._end(key)
        if again is not None:
            self.add(key, again)

    def failed(self, key: K) -> float:
        """End a reconcile that failed; it is repeated after a wait that doubles. Returns the wait."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        wait: float = min(RETRY_SECONDS * 2**failures, RETRY_SECONDS_MAX)
        self._end(key)
        self.add(key, wait)
        return wait

    def _end(self, key: K) -> None:
        self._busy.discard(key)
        if key in self._due:
            self._push(self._due[key], key)

    def _push(self, at: float, key: K) -> None:
        self._number += 1
        heapq.heappush(self._heap, (at, self._number, key))
        self._changed.set()

    def _next(self) -> tuple[K | None, float | None]:
        while self._heap:
            at, _, key = self._heap[0]
            if self._due.get(key) != at or key in self._busy:  # superseded; or pushed again when its reconcile ends
                heapq.heappop(self._heap)
                continue
            wait = at - time.monotonic()
            if wait > 0:
                return None, wait
            heapq.heappop(self._heap)
            del self._due[key]
            self._busy.add(key)
            return key, None
        return None, None
