"""One poller for all viewers: what several look at is read once, and nothing is read where nobody looks.

Invariant: reads are SPACING_SECONDS apart, so that any number of viewers of any number of views costs less than 5
queries a second; the more views, the more seldom each is read.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from stripedjob.pool.errors import PoolError
from stripedjob.ui.views import View

REFRESH_SECONDS = 1.0  # of one view
SPACING_SECONDS = 0.5  # between two reads; one may also ask the lock backend
KEPT_MAX = 200  # views whose last answer is kept, beside those that somebody watches


@dataclass(slots=True)
class Look:
    """What was seen last of a view, and since when it cannot be seen. `number` grows with every look."""

    data: Any = None
    seen_at: float = float("-inf")
    asked_at: float = float("-inf")
    trouble: str = ""
    number: int = 0
    viewers: int = 0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _rendered: tuple[int, dict[Any, str]] = field(default_factory=lambda: (-1, {}))

    async def wait(self, number: int, seconds: float) -> bool:
        """Wait for another look than this one, at most so long; False: there was none."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds), self.changed:
                return await self.changed.wait_for(lambda: self.number != number)
        return False

    def rendered(self, key: Any, render: Callable[[], str]) -> str:
        """Return what this look looks like to those with this key, rendered once for them."""
        if self._rendered[0] != self.number:
            self._rendered = (self.number, {})
        known = self._rendered[1]
        if key not in known:
            known[key] = render()
        return known[key]


class Live:
    """Reads views for all who look at them. `read` is a Source's."""

    def __init__(self, read: Callable[[View], Awaitable[Any]]) -> None:
        """Read nothing yet."""
        self._read = read
        self._looks: dict[View, Look] = {}
        self._watched: dict[View, Look] = {}
        self._last_at = float("-inf")
        self._poller: asyncio.Task[None] | None = None

    async def look(self, view: View) -> Look:
        """Return a view as it was at most a second ago; its `trouble` says why it cannot be seen now."""
        look = self._look(view)
        async with look.changed:
            if time.monotonic() - look.asked_at >= REFRESH_SECONDS:
                await self._refresh(view, look)
        return look

    @asynccontextmanager
    async def watch(self, view: View) -> AsyncIterator[Look]:
        """Have the view read again and again while the context is open; wait for its `changed`."""
        look = self._look(view)
        look.viewers += 1
        self._watched[view] = look
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll())
        try:
            yield look
        finally:
            look.viewers -= 1
            if not look.viewers:
                del self._watched[view]

    async def close(self) -> None:
        """Read nothing any more."""
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.wait({self._poller})

    async def _poll(self) -> None:
        while self._watched:
            view, look = min(self._watched.items(), key=lambda one: one[1].asked_at)
            due = max(look.asked_at + REFRESH_SECONDS, self._last_at + SPACING_SECONDS) - time.monotonic()
            if due > 0:
                await asyncio.sleep(min(due, SPACING_SECONDS))  # somebody else may have come meanwhile
                continue
            async with look.changed:
                await self._refresh(view, look)

    async def _refresh(self, view: View, look: Look) -> None:
        """Read a view; whoever waits is told. The caller holds `changed`."""
        try:
            look.data = await self._read(view)
            look.seen_at, look.trouble = time.time(), ""
        except PoolError as error:
            look.trouble = str(error)
        finally:
            look.asked_at = self._last_at = time.monotonic()
        look.number += 1
        look.changed.notify_all()

    def _look(self, view: View) -> Look:
        look = self._looks.pop(view, None) or Look()
        self._looks[view] = look  # the last one now
        if len(self._looks) > KEPT_MAX:
            idle = next((old for old, one in self._looks.items() if not one.viewers), None)
            if idle is not None and idle != view:
                del self._looks[idle]
        return look
