"""The worker's side of the pool: one connection, one round trip a call. The runtime calls it.

Foreign errors end here: a lost connection becomes PoolUnreachableError, a lease that ran out WorkerLostError.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from psycopg import sql
from psycopg.types.json import Json

from stripedjob.pool.client.session import PoolSession
from stripedjob.pool.names import in_query
from stripedjob.pool.pooled import AsyncConnection
from stripedjob.pool.types import Batch, Fate, JobSettings, Lease, News, Poll, Recorded, Spared, Then

BYTES_MAX = 16 << 20  # of the payloads of one claim, where the caller says nothing else


class WorkerPool(PoolSession):
    """A connection to the pool; `async with WorkerPool.open(url, schema)`."""

    def __init__(self, conn: AsyncConnection, schema: str) -> None:
        """Take a connection in autocommit mode."""
        super().__init__(conn, schema)
        self._sessions: dict[int, int] = {}  # of workers that came back over this connection; a new one's is 0

    async def apply_job(self, job: JobSettings) -> int:
        """Make the job or update it in place; returns its id."""
        values = job.as_values()
        return int(await self._value(f"apply_job({', '.join(['%s'] * len(values))})", values))

    async def register(self, job_id: int, name: str, backend_name: str | None = None) -> int:
        """Become a worker of the job; returns its id, which no other worker ever has.

        `backend_name`: the application_name of the sessions of its handlers, which end with its leases.
        """
        return int(await self._value("register(%s, %s, %s)", [job_id, name, backend_name]))

    async def resume(self, worker_id: int, session: int, fences: Sequence[int]) -> list[int]:
        """Go on as this worker over this connection, as its session of this number, greater than all before.

        What earlier connections still send is refused from then on. `fences` are those of all leases that the worker
        knows of: any other is given back, of a claim whose answer was lost. Returns those of `fences` that are not the
        worker's any more. Raises WorkerLostError.
        """
        lost = await self._value("resume(%s, %s, %s)", [worker_id, session, array_of_numbers(fences)])
        self._sessions[worker_id] = session
        return list(lost)

    async def upkeep(self, job_id: int) -> None:
        """Fold wakes in, wake what is due, take back what the dead held. Cheap where there is nothing to do."""
        await self._value("upkeep(%s)", [job_id])

    async def keep_up(self, job_id: int, worker_id: int) -> dict[int, str]:
        """Do upkeep, and call idle workers for what is ready; give which units of its leases are cancelled, and why."""
        query = sql.SQL("select unit, reason from {}.keep_up(%s) left join {}.cancellations(%s) on true")
        rows = await self._fetch(query.format(in_query(self._schema), in_query(self._schema)), [job_id, worker_id])
        return {unit: reason for unit, reason in rows if unit is not None}

    async def cancellations(self, worker_id: int) -> dict[int, str]:
        """Return which units of the worker's leases are cancelled, and why."""
        return dict(await self._rows("cancellations(%s)", [worker_id]))

    async def clean(self, job_id: int) -> bool:
        """Remove what was kept for long enough, at most every 30 s; True: there is more, worth a call at once."""
        return bool(await self._value("clean(%s)", [job_id]))

    async def claim(
        self,
        worker_id: int,
        resources_max: int,
        units_max: int,
        bytes_max: int = BYTES_MAX,
        unshared: int = 0,
        *,
        now: float = 0.0,
        upkeep_of: int | None = None,
    ) -> list[Lease]:
        """Lease ready resources with the head of their units; [] where there are none or the limit is reached.

        Their payloads have `bytes_max` bytes in all, or are one unit. So many resources as `unshared` are taken also
        where less would be a fair share. `now`: the time of the caller's clock, by which the leases say since when
        their units wait. `upkeep_of`: the id of the worker's job, to do its upkeep first. Raises WorkerLostError.
        """
        await self._forget_calls()
        session = self._sessions.get(worker_id, 0)
        values = [worker_id, session, resources_max, units_max, bytes_max, unshared]
        call = "claim(%s, %s, %s, %s, %s, %s)"
        if upkeep_of is None:
            rows = await self._rows(call, values)
        else:
            rows = await self._rows_after("upkeep(%s)", call, [upkeep_of, *values])
        return _leases(worker_id, rows[0], now) if rows else []

    async def settle(self, job_id: int, batch: Batch) -> Recorded:
        """Record what became of leases, but for those that were lost; returns what was made of it."""
        ended, tally = batch.ended, batch.tally
        failed = [failure.as_row() for one in ended for failure in one.failed]
        is_plain = all(one.then is Then.IDLE for one in ended)
        values = [
            job_id,
            batch.worker_id,
            batch.number,
            array_of_texts([one.lease.resource for one in ended]),
            array_of_numbers([one.lease.fence for one in ended]),
            array_of_numbers([len(one.done) for one in ended]),
            None if is_plain else array_of_texts([one.then.value for one in ended]),
            None if is_plain else [one.wait_seconds for one in ended],
            array_of_numbers([unit_id for one in ended for unit_id in one.done]),
            Json(failed) if failed else None,
            tally.claimed,
            tally.lock_tries,
            tally.lock_refusals,
        ]
        call = "settle(%s,%s,%s,%s::text[],%s::bigint[],%s::int[],%s::text[],%s::float8[],%s::bigint[],%s,%s,%s,%s)"
        refused, spared = (await self._rows(call, values))[0]
        return Recorded(
            refused,
            {one["id"]: Spared(Fate(one["to"]), one["attempts"], one["after"]) for one in spared or ()},
        )

    async def renew(self, worker_id: int, fences: Sequence[int] = ()) -> list[int]:
        """Extend every lease of the worker; returns those of `fences` that are not its any more.

        Raises WorkerLostError where it was considered dead.
        """
        return list(await self._value("renew(%s, %s)", [worker_id, array_of_numbers(fences)]))

    async def note_times(self, job_id: int, news: News) -> None:
        """Say how many units waited and ran how long since this was said last."""
        waits, runs = array_of_numbers(news.waits), array_of_numbers(news.runs)
        await self._value("note_times(%s, %s, %s, %s, %s)", [job_id, waits, news.wait_seconds, runs, news.run_seconds])

    async def poll(self, worker_id: int) -> Poll:
        """Ask, when idle, whether there is something to claim."""
        row = (await self._rows("poll(%s)", [worker_id]))[0]
        return Poll(claimable=row[0], sleep_seconds=row[1])

    async def is_empty(self, job_id: int) -> bool:
        """Return whether nothing is left to do: held and dead units, which wait for a person, do not count."""
        return bool(await self._value("is_empty(%s)", [job_id]))

    async def sleep(self, job_id: int, worker_id: int, seconds: float, wake: asyncio.Event) -> bool:
        """Sleep so long, or until `wake` is set, or until the pool calls this worker: then True."""
        return await self._sleep(f"{job_id}", seconds, wake, lambda call: _concerns(call, worker_id))

    async def leave(self, worker_id: int) -> None:
        """Give back what is still leased, and be no worker any more."""
        await self._value("leave(%s)", [worker_id])


def array_of_numbers(values: Iterable[int]) -> str:
    """Write an array as Postgres reads it, which costs a tenth of what psycopg takes for a list."""
    return f"{{{','.join(map(str, values))}}}"


def array_of_texts(values: Sequence[str]) -> str:
    """Write an array of texts, whatever is in them."""
    if not values:
        return "{}"
    escaped = "\0".join(values).replace("\\", "\\\\").replace('"', '\\"')  # Postgres knows no text with a \0 in it
    return '{"' + escaped.replace("\0", '","') + '"}'


def _concerns(call: str, worker_id: int) -> bool:
    """Tell whether a call is for this worker: `*`, or its id is one of those that are named."""
    return call == "*" or str(worker_id) in call.split(",")


def _leases(worker_id: int, row: Sequence[Any], now: float) -> list[Lease]:
    """Cut the flat arrays of claim() into leases."""
    resources, fences, suspect, counts, more, *columns, oldest, newest, traced = row
    ids, attempts, crashes, payloads = (tuple(column or ()) for column in columns)  # null, where no lease has a unit
    traceparents: tuple[str | None, ...] = tuple(traced or ())
    leases, end = [], 0
    for resource, fence, count, has_more, oldest_us, newest_us in zip(
        resources, fences, counts, more, oldest, newest, strict=True
    ):
        start, end = end, end + count
        leases.append(
            Lease(
                resource,
                fence,
                suspect,
                has_more,
                ids[start:end],
                attempts[start:end],
                crashes[start:end],
                payloads[start:end],
                worker_id,
                now - oldest_us / 1e6,
                now - newest_us / 1e6,
                traceparents[start:end],
            )
        )
    return leases
