"""The delegator: the one process of a job that assigns resources to workers.

It works on nothing itself, and takes no slot of the limit. Called by `stripedjob delegator`. Lead → delegate → sleep
until a worker wants something. What it decides, it decides in one call of the pool, so that a delegator that was
paused, and has been succeeded meanwhile, can assign nothing.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from stripedjob.observe.log import logger
from stripedjob.pool.client.delegator import DelegatorPool
from stripedjob.pool.errors import PoolUnreachableError
from stripedjob.runtime.idle import Idle
from stripedjob.runtime.observe import Observer
from stripedjob.runtime.reconnect import Reconnect

STANDBY_SECONDS = 1.0  # between two tries to lead, while another does


class Delegator:
    """One delegator; of several that are started for a job, one is active."""

    def __init__(
        self,
        job_id: int,
        name: str,
        open_pool: Callable[[], AbstractAsyncContextManager[DelegatorPool]],
        observer: Observer,
    ) -> None:
        """Take whose delegator it is, and what it works with."""
        self._job_id, self._name, self._open_pool, self._observer = job_id, name, open_pool, observer
        self._reconnect, self._idle = Reconnect(time.monotonic), Idle(time.monotonic)
        self._end = asyncio.Event()
        self.term: int | None = None

    def drain(self) -> None:
        """End: what is assigned stays with its workers."""
        self._end.set()

    async def run(self) -> None:
        """Assign until told to end, whatever becomes of the connection. Raises PoolError where Postgres stays away."""
        while not self._end.is_set():
            try:
                async with self._open_pool() as pool:
                    await self._session(pool)
            except PoolUnreachableError as error:
                self._observer.turned()
                self._observer.disconnected(error)
                await self._pause(self._reconnect.wait_seconds(error))

    async def _session(self, pool: DelegatorPool) -> None:
        self._observer.connected(self.term or 0)
        while not self._end.is_set():
            self._observer.turned()
            if self.term is None:
                await self._stand(pool)
            else:
                await self._turn(pool, self.term)
            self._reconnect.connected()
        if self.term is not None:
            await pool.resign(self._job_id, self.term)

    async def _stand(self, pool: DelegatorPool) -> None:
        self.term = await pool.lead(self._job_id, self._name)
        if self.term is None:
            await self._pause(STANDBY_SECONDS)
        else:
            logger.info("delegating", extra={"term": self.term})

    async def _turn(self, pool: DelegatorPool, term: int) -> None:
        turn = await pool.delegate(self._job_id, term)
        if not turn.leading:
            logger.warning("leadership lost: another leads", extra={"term": term})
            self.term = None
        elif turn.assigned:
            self._idle.was_busy()
        else:
            await self._idle.sleep(lambda seconds: pool.sleep(self._job_id, seconds, self._end), turn.wait_seconds)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._end.wait()
        except TimeoutError:
            pass
