"""The worker's side of the pool: one connection, one round trip a call. The runtime calls it.

Foreign errors end here: a lost connection becomes PoolUnreachableError, a lease that ran out WorkerLostError.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Json

from stripedjob.pool.connection import CALL_SECONDS_MAX, CONNECTION, connection_error, foreign_errors
from stripedjob.pool.errors import WorkerLostError
from stripedjob.pool.types import Batch, JobSettings, Lease, Poll


class WorkerPool:
    """A connection to the pool; `async with WorkerPool.open(url, schema)`."""

    def __init__(self, conn: psycopg.AsyncConnection, schema: str) -> None:
        """Take a connection in autocommit mode."""
        self._conn = conn
        self._schema = sql.Identifier(schema)
        self._listening = False

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, schema: str = "striped") -> AsyncIterator["WorkerPool"]:
        """Connect; raises PoolUnreachableError or PoolRefusedError with the server's own words."""
        try:
            conn = await psycopg.AsyncConnection.connect(url, autocommit=True, **CONNECTION)
        except psycopg.Error as error:
            raise connection_error(error) from error
        try:
            yield cls(conn, schema)
        finally:
            await conn.close()

    async def apply_job(self, job: JobSettings) -> int:
        """Make the job or update it in place; returns its id."""
        values = job.as_values()
        return int(await self._value(f"apply_job({', '.join(['%s'] * len(values))})", values))

    async def job_id(self, namespace: str, job_type: str) -> int:
        """Find a job; raises PoolError where there is none."""
        return int(await self._value("job_id(%s, %s)", [namespace, job_type]))

    async def register(self, job_id: int, name: str) -> int:
        """Become a worker of the job; returns its id, which no other worker ever has."""
        return int(await self._value("register(%s, %s)", [job_id, name]))

    async def upkeep(self, job_id: int) -> None:
        """Fold wakes in, wake what is due, take back what the dead held. Cheap where there is nothing to do."""
        await self._value("upkeep(%s)", [job_id])

    async def claim(self, worker_id: int, resources_max: int, units_max: int) -> list[Lease]:
        """Lease ready resources with the head of their units; [] where there are none or the limit is reached."""
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
            tally.recorded,
            tally.claimed,
            tally.lock_tries,
            tally.lock_refusals,
        ]
        call = "settle(%s,%s,%s,%s::text[],%s::bigint[],%s::int[],%s::text[],%s::float8[],%s::bigint[],%s,%s,%s,%s,%s)"
        return list(await self._value(call, values))

    async def renew(self, worker_id: int) -> None:
        """Extend every lease of the worker; raises WorkerLostError where it was taken for dead."""
        if not await self._value("renew(%s)", [worker_id]):
            raise WorkerLostError

    async def poll(self, worker_id: int) -> Poll:
        """Ask, when idle, whether there is something to claim."""
        row = (await self._rows("poll(%s)", [worker_id]))[0]
        return Poll(claimable=row[0], sleep_seconds=row[1])

    async def is_empty(self, job_id: int) -> bool:
        """Say whether nothing is left to do: held and dead units, which wait for a person, do not count."""
        return bool(await self._value("is_empty(%s)", [job_id]))

    async def listen(self, job_id: int, seconds: float, wake: asyncio.Event) -> bool:
        """Sleep so long, or until `wake` is set, or until the pool calls and the lot falls here: then True."""
        await self._listen_to(job_id)
        tasks: list[asyncio.Task[bool]] = [
            asyncio.create_task(self._called(seconds)),
            asyncio.create_task(wake.wait()),
        ]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.wait(tasks)
        return tasks[0] in done and tasks[0].result()

    async def leave(self, worker_id: int) -> None:
        """Give back what is still leased, and be no worker any more."""
        await self._value("leave(%s)", [worker_id])

    async def _listen_to(self, job_id: int) -> None:
        if not self._listening:
            await self._run(sql.SQL("listen {}").format(sql.Identifier(f"striped_{job_id}")), [])
            self._listening = True

    async def _called(self, seconds: float) -> bool:
        """Wait for a call of `k/n`, and answer with that chance: of n idle workers, k are to come."""
        end = time.monotonic() + seconds
        with foreign_errors():
            while (left := end - time.monotonic()) > 0:
                async for call in self._conn.notifies(timeout=left, stop_after=1):
                    wanted, _, idle = call.payload.partition("/")
                    if random.random() * int(idle) < int(wanted):  # noqa: S311 - a lot, not a secret
                        return True
        return False

    async def _value(self, call: str, values: Sequence[Any]) -> Any:
        return (await self._rows(call, values))[0][0]

    async def _rows(self, call: str, values: Sequence[Any]) -> list[Any]:
        query = sql.SQL("select * from {}.").format(self._schema) + sql.SQL(call)
        return await (await self._run(query, values)).fetchall()

    async def _run(self, query: sql.Composed, values: Sequence[Any]) -> psycopg.AsyncCursor[Any]:
        with foreign_errors():
            async with asyncio.timeout(CALL_SECONDS_MAX):
                return await self._conn.execute(query, values, binary=True)


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
