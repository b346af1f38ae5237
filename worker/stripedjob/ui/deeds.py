"""Actions under way, and what became of the last ones: exact numbers, also where one failed half way."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from stripedjob.pool.errors import PoolError

DEEDS_MAX = 100


@dataclass(slots=True)
class Deed:
    """One action: what it does, what it did so far, and why it failed, where it has. `back`: where it was asked for.

    `told`: puts what was done into words, by `units` and what was done `beside` them. `counts`: they are so many, and
    not one thing that was done or not.
    """

    job: int
    namespace: str
    title: str
    told: Callable[[int, int], str]
    back: str
    counts: bool = True
    units: int = 0
    beside: int = 0
    running: bool = True
    error: str = ""

    @property
    def words(self) -> str:
        """Say what was done so far."""
        return self.told(self.units, self.beside)


@dataclass(slots=True)
class Deeds:
    """The last actions, by a name that nobody can guess."""

    _deeds: dict[str, Deed] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def get(self, job: int, name: str) -> Deed | None:
        """Find one."""
        deed = self._deeds.get(name)
        return deed if deed is not None and deed.job == job else None

    async def begin(self, deed: Deed, work: Callable[[Deed], Awaitable[None]], wait_seconds: float) -> str:
        """Begin an action, which goes on also where nobody waits for it; wait a little for its end. Gives its name."""
        name = secrets.token_urlsafe(12)
        self._deeds[name] = deed
        while len(self._deeds) > DEEDS_MAX:
            del self._deeds[next(iter(self._deeds))]
        task = asyncio.create_task(_run(deed, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.wait({task}, timeout=wait_seconds)
        return name

    async def close(self) -> None:
        """Stop what is under way; what was done stays done."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


async def _run(deed: Deed, work: Callable[[Deed], Awaitable[None]]) -> None:
    try:
        await work(deed)
    except PoolError as error:
        deed.error = str(error)
    finally:
        deed.running = False
