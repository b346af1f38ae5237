"""The worker's side of the pool: one connection, one round trip a call. The runtime calls it.

Foreign errors end here: a lost connection becomes PoolUnreachableError, a lease that ran out WorkerLostError.
"""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

from psycopg.types.json import Json

from stripedjob.pool.errors import WorkerLostError
from stripedjob.pool.session import PoolSession
from stripedjob.pool.types import Batch, JobSettings, Lease, Poll


class WorkerPool(PoolSession):
    """A connection to the pool; `async with WorkerPool.open(url, schema)`."""

    async def apply_job(self, job: JobSettings) -> int:
        """Make the job or update it in place; returns its id."""
        values = job.as_values()
        return int(await self._value(f"apply_job({', '.join(['%s'] * len(values))})", values))

    async def register(self, job_id: int, name: str) -> int:
        """Become a worker of the job; returns its id, which no other worker ever has."""
        return int(await self._value("register(%s, %s)", [job_id, name]))

    async def upkeep(self, job_id: int) -> None:
        """Fold wakes in, wake what is due, take back what the dead held. Cheap where there is nothing to do."""
        await self._value("upkeep(%s)", [job_id])

    async def claim(self, worker_id: int, resources_max: int, units_max: int) -> list[Lease]:
        """Lease ready resources with the head of their units; [] where there are none or the limit is reached."""
        await self._forget_calls()
        rows = await self._rows("claim(%s, %s, %s)", [worker_id, resources_max, units_max])
        return [_lease(row, units_max) for row in rows]

    async def settle(self, job_id: int, batch: Batch) -> list[str]:
        """Record what became of leases; returns the resources that were refused, because their lease was lost."""
        ended, tally = batch.ended, batch.tally
        failed = [failure.as_row() for one in ended for failure in one.failed]
        values = [
            job_id,
            batch.worker_id,
            batch.number,
            [one.lease.resource for one in ended],
            [one.lease.fence for one in ended],
            [len(one.done) for one in ended],
            [one.then.value for one in ended],
            [one.wait_seconds for one in ended],
            f"{{{','.join(str(unit_id) for one in ended for unit_id in one.done)}}}",  # far quicker than as a list
            Json(failed) if failed else None,
            tally.claimed,
            tally.lock_tries,
            tally.lock_refusals,
        ]
        call = "settle(%s,%s,%s,%s::text[],%s::bigint[],%s::int[],%s::text[],%s::float8[],%s::bigint[],%s,%s,%s,%s)"
        return list(await self._value(call, values))

    async def renew(self, worker_id: int) -> None:
        """Extend every lease of the worker; raises WorkerLostError where it was taken for dead."""
        if not await self._value("renew(%s)", [worker_id]):
            raise WorkerLostError

    async def keep_only(self, worker_id: int, fences: list[int]) -> None:
        """Give back every lease with another fence: of a claim whose answer was lost. Raises WorkerLostError."""
        await self._value("keep_only(%s, %s)", [worker_id, fences])

    async def poll(self, worker_id: int) -> Poll:
        """Ask, when idle, whether there is something to claim."""
        row = (await self._rows("poll(%s)", [worker_id]))[0]
        return Poll(claimable=row[0], sleep_seconds=row[1])

    async def is_empty(self, job_id: int) -> bool:
        """Say whether nothing is left to do: held and dead units, which wait for a person, do not count."""
        return bool(await self._value("is_empty(%s)", [job_id]))

    async def sleep(self, job_id: int, worker_id: int, seconds: float, wake: asyncio.Event) -> bool:
        """Sleep so long, or until `wake` is set, or until the pool calls this worker: then True."""
        return await self._sleep(f"striped_{job_id}", seconds, wake, lambda call: _concerns(call, worker_id))

    async def leave(self, worker_id: int) -> None:
        """Give back what is still leased, and be no worker any more."""
        await self._value("leave(%s)", [worker_id])


def _concerns(call: str, worker_id: int) -> bool:
    """Tell whether a call is for this worker: `@id`, or the lot falls on it: `k/n`, k of n idle workers are to come."""
    if call.startswith("@"):
        return int(call[1:]) == worker_id
    wanted, _, idle = call.partition("/")
    return random.random() * int(idle) < int(wanted)  # noqa: S311 - a lot, not a secret


def _lease(row: Sequence[Any], units_max: int) -> Lease:
    resource, fence, suspect, ids, attempts, crashes, payloads = row
    units = 1 if suspect else units_max
    ids = ids or ()
    return Lease(
        resource=resource,
        fence=fence,
        suspect=suspect,
        more=len(ids) > units,
        ids=tuple(ids[:units]),
        attempts=tuple((attempts or ())[:units]),
        crashes=tuple((crashes or ())[:units]),
        payloads=tuple((payloads or ())[:units]),
    )
