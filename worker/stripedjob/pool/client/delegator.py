"""The delegator's side of the pool: to lead, and to assign. The runtime's delegator calls it."""

import asyncio

from stripedjob.pool.client.session import PoolSession
from stripedjob.pool.types import Delegation


class DelegatorPool(PoolSession):
    """A connection to the pool; `async with DelegatorPool.open(url, schema)`."""

    async def lead(self, job_id: int, name: str) -> int | None:
        """Become the job's delegator: returns the term; None where another leads."""
        found = await self._value("lead(%s, %s)", [job_id, name])
        return None if found is None else int(found)

    async def delegate(self, job_id: int, term: int) -> Delegation:
        """Keep the pool up and assign what workers want. Under a term that is over nothing is done."""
        row = (await self._rows("delegate(%s, %s)", [job_id, term]))[0]
        return Delegation(leading=row[0], assigned=row[1], wait_seconds=row[2])

    async def resign(self, job_id: int, term: int) -> None:
        """Lead no more."""
        await self._value("resign(%s, %s)", [job_id, term])

    async def sleep(self, job_id: int, seconds: float, wake: asyncio.Event) -> bool:
        """Sleep so long, or until `wake` is set, or until a worker wants something: then True."""
        return await self._sleep(f"{job_id}_delegator", seconds, wake, lambda _: True)
