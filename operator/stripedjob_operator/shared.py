"""What several StripedJobs share, such as a database: one thing a place, with a task of its own, while it has users."""

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, Self, TypeVar

from stripedjob_operator.observed import Key

END_SECONDS_MAX = 2.0  # for which the end of this process waits for what hangs
P = TypeVar("P", bound=Hashable)


def end_if_cancelled() -> None:
    """End the task that calls this, if it is being cancelled: a library may have made an error of its own of that."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


class Served(Protocol):
    """Runs until it is cancelled, and then leaves nothing open."""

    users: set[Key]

    async def run(self) -> None:
        """Run."""
        ...

    def leave(self, key: Key) -> None:
        """Forget a user."""
        ...


S = TypeVar("S", bound=Served)


class Shared(Generic[P, S]):
    """Things by their places; their tasks end with the context."""

    def __init__(self) -> None:
        """Begin empty."""
        self._things: dict[P, S] = {}
        self._place_of: dict[Key, P] = {}
        self._tasks: dict[P, asyncio.Task[None]] = {}
        self._ending: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Begin."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """End all tasks."""
        for place in list(self._tasks):
            self._end(place)
        if self._ending:
            await asyncio.wait(self._ending, timeout=END_SECONDS_MAX)

    def of(self, key: Key, place: P, make: Callable[[], S]) -> S:
        """Return the thing of a StripedJob, which uses no other of these from now on. Raises what `make` raises."""
        if self._place_of.get(key) != place:
            self.leave(key)
            if place not in self._things:
                self._things[place] = make()
                self._tasks[place] = asyncio.create_task(self._things[place].run())
            self._place_of[key] = place
            self._things[place].users.add(key)
        return self._things[place]

    def things(self) -> list[S]:
        """Return all that there are now."""
        return list(self._things.values())

    def leave(self, key: Key) -> None:
        """Have a StripedJob use none of these."""
        place = self._place_of.pop(key, None)
        if place is None:
            return
        self._things[place].leave(key)
        if not self._things[place].users:
            self._end(place)

    def _end(self, place: P) -> None:
        task = self._tasks.pop(place)
        del self._things[place]
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        task.cancel()
