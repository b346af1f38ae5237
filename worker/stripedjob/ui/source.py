"""Where views are read: one connection to the pool, made when it is needed; the lock backend of the file's job."""

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from stripedjob.locks import LockBackend, LockError
from stripedjob.pool.client.bounded import BoundedPool
from stripedjob.pool.client.viewer import ViewerPool
from stripedjob.pool.errors import PoolUnreachableError
from stripedjob.times import summary
from stripedjob.ui.deeds import Deeds
from stripedjob.ui.rates import Rates
from stripedjob.ui.views import DeedView, JobsView, JobView, PoolView, ResourceView, View

READ_SECONDS_MAX = 5.0


@dataclass(slots=True)
class Source:
    """Reads views, one at a time. `lock`: the backend of the job (namespace, job type), where it is known."""

    url: str
    schema: str
    deeds: Deeds
    lock: LockBackend | None = None
    lock_job: tuple[str, str] | None = None
    _rates: Rates = field(default_factory=Rates)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _pool: BoundedPool[ViewerPool] | None = None

    async def read(self, view: View) -> Any:
        """Read a view; None where it is not there. Raises PoolError."""
        if isinstance(view, DeedView):
            return self.deeds.get(view.job, view.deed)
        async with self._turn:
            data = await self._ask(view)
        if data is None:
            return None
        match view:
            case JobsView():
                return data | {"rates": {job["id"]: self._rate(job) for job in data["jobs"]}}
            case JobView():
                return data | {"rate": self._rate(data["status"]), "times": summary(data["times"])}
            case ResourceView():
                return data | {"lock": await self._look(view, data)}
        return data

    async def close(self) -> None:
        """Close the connections."""
        await self._drop()
        if self.lock is not None:
            await self.lock.close()

    async def _ask(self, view: PoolView) -> Any:
        """Ask over the connection that is there; where that turns out to be lost, over a new one."""
        if self._pool is not None and self._pool.is_usable:
            try:
                return await self._pool.call(view.read, READ_SECONDS_MAX)
            except PoolUnreachableError:
                pass
        await self._drop()
        self._pool = await self._stack.enter_async_context(BoundedPool.open(self.url, self.schema, ViewerPool))
        return await self._pool.call(view.read, READ_SECONDS_MAX)

    async def _drop(self) -> None:
        stack, self._stack, self._pool = self._stack, AsyncExitStack(), None
        await stack.aclose()

    def _rate(self, status: dict[str, Any]) -> float | None:
        return self._rates.per_second(status["id"], status["total_done"], time.monotonic())

    async def _look(self, view: ResourceView, data: dict[str, Any]) -> dict[str, Any]:
        """Say who holds the lock: `known` is false where the backend is not."""
        if self.lock is None or self.lock_job != (data["namespace"], data["job_type"]):
            return {"known": False}
        try:
            held = await self.lock.look(view.name)
        except LockError as error:
            return {"known": True, "error": str(error), "held": None}
        return {"known": True, "error": None, "held": held}
