"""The worker's main loop, read as a list of verbs: renew → claim → lock → submit → settle → collect.

Called by `stripedjob worker`. One coroutine does the verbs in turn, so that a lease is in one place at a time and a
renewal can never overtake a release. The handler runs in another process meanwhile, so nothing that it does delays a
renewal. A batch costs four round trips whatever its size: claim, with upkeep where it is due, and settle in Postgres,
acquire and release in the lock backend. Whatever becomes of a connection, what was sent and not acknowledged is sent
again.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from itertools import count

from stripedjob.locks import LockBackend
from stripedjob.pool.client.worker import BYTES_MAX, WorkerPool
from stripedjob.pool.errors import FOR_A_PERSON, PoolError, WorkerLostError
from stripedjob.pool.types import Batch, Lease, Then
from stripedjob.runtime import clock
from stripedjob.runtime.executor.supervisor import ExecutorSupervisor, HandlerError
from stripedjob.runtime.idle import Idle
from stripedjob.runtime.observe import Observer
from stripedjob.runtime.reconnect import Reconnect
from stripedjob.runtime.worker.chores import Chores
from stripedjob.runtime.worker.claiming import Claiming
from stripedjob.runtime.worker.inflight import SETTLE_SECONDS, Inflight
from stripedjob.runtime.worker.keeper import Keeper
from stripedjob.runtime.worker.locking import Locking
from stripedjob.runtime.worker.pace import Pace
from stripedjob.runtime.worker.record import Recorder
from stripedjob.runtime.worker.settings import WorkerSettings
from stripedjob.runtime.worker.timing import Timing

RENEWALS_A_LEASE = 3
MARGIN = 1 / 6  # of the lease: no unit starts so near its end, and work that still runs is ended


class Worker:
    """One worker. `run()` works until `drain()` is called and everything leased has been settled."""

    def __init__(
        self,
        settings: WorkerSettings,
        open_pool: Callable[[], AbstractAsyncContextManager[WorkerPool]],
        lock: LockBackend,
        executor: ExecutorSupervisor,
        observer: Observer,
    ) -> None:
        """Take what it works with; the caller opens and closes lock and executor."""
        self._settings, self._open_pool, self._executor = settings, open_pool, executor
        self._observer, self._clock = observer, clock.now
        self._locking = Locking(lock, settings.lease_seconds, observer, self._clock)
        self._inflight = Inflight(settings.policy, random.Random())  # noqa: S311 - jitter
        self._numbers = count(1)  # of batches and of sessions: each is greater than all before
        self._recorder = Recorder(settings.job_id, self._numbers, observer)
        self._timing = Timing(observer.wait, observer.run)
        self._chores, self._keeper = Chores(settings.job_id, self._timing, self._clock), Keeper(self._clock)
        self._worker_id, self._pace = 0, Pace()
        self._renew_at = self._lease_end = 0.0
        self._reconnect, self._idle = Reconnect(self._clock), Idle(self._clock)
        self._claiming = Claiming(self._clock, gathers=settings.gathers)
        self._wake = asyncio.Event()
        self._drain_end: float | None = None
        self._failure: HandlerError | None = None
        self._left = False

    def drain(self) -> None:
        """Take no more: what runs is finished if it can be within drain_seconds, everything else goes back."""
        if self._drain_end is None:
            self._drain_end = self._clock() + self._settings.drain_seconds
            self._set_deadline()
            self._wake.set()

    async def run(self) -> None:
        """Work, whatever becomes of the connection. Raises HandlerError, and PoolError where Postgres stays away."""
        while not self._left:
            try:
                async with self._open_pool() as pool:
                    await self._session(pool)
            except WorkerLostError:
                await self._register_again()
            except FOR_A_PERSON:
                raise
            except PoolError as error:
                await self._wait_for_pool(error)
        if self._failure is not None:
            raise self._failure

    async def _session(self, pool: WorkerPool) -> None:
        """Work over one connection, until everything is done or the connection breaks."""
        asked = self._clock()
        if not self._worker_id:
            self._worker_id = await pool.register(
                self._settings.job_id, self._settings.name, self._settings.backend_name
            )
        else:
            known = self._inflight.fences() + self._recorder.fences()
            lost = await pool.resume(self._worker_id, next(self._numbers), known)
            await self._drop(lost)
        self._extend(asked)
        self._observer.connected(self._worker_id)
        while self._drain_end is None or self._inflight or self._recorder:
            await self._turn(pool)
        await self._chores.note_times(pool)
        await pool.leave(self._worker_id)
        self._left = True

    async def _turn(self, pool: WorkerPool) -> None:
        """Go once through the verbs."""
        self._observer.turned()
        await self._renew(pool)
        claimed = self._may_claim() and await self._claim(pool)  # before settling: the executor waits for nothing
        await self._settle(pool)
        self._executor.submit(self._inflight.unpark(self._clock()))
        if self._inflight.leases:
            self._idle.was_busy()
            if not claimed:
                await self._keep_up(pool)
            await self._collect(0.0 if claimed else self._patience())
        elif not claimed and not self._inflight and not self._recorder and self._drain_end is None:
            await self._rest(pool)
        await self._chores.do(pool)
        self._reconnect.connected()

    async def _renew(self, pool: WorkerPool) -> None:
        """Extend the leases in good time, those of the next claim too: one row in Postgres, then the locks."""
        asked = self._clock()
        leases = self._inflight.held()
        if asked < self._renew_at or not (leases or self._may_claim()):
            return
        lost = await pool.renew(self._worker_id, [lease.fence for lease in leases])
        await self._drop(lost)  # before the executor hears that it may go on
        self._extend(asked)
        if leases:
            await self._locking.renew(self._worker_id, self._inflight.held())
            self._executor.cancel(self._inflight.places(await pool.cancellations(self._worker_id)))

    async def _drop(self, lost: list[int]) -> None:
        """Stop the work where leases that are at work were lost: a stand-by lacks them, or the pool was cleared."""
        if any(lease.fence in lost for lease in self._inflight.held()):
            self._observer.lost(self._worker_id)
            await self._abandon()

    async def _abandon(self) -> None:
        """End what runs. All of it is given back; what was lost is refused then, and counted as stale."""
        self._inflight.abandon(self._clock())
        await self._executor.kill()

    async def _settle(self, pool: WorkerPool) -> None:
        """Give locks back, then record: the other way round, the next claimer would find the lock still taken."""
        if not self._recorder:
            due = self._inflight.due_seconds(self._clock())
            if due is None or due > 0:
                return
            batch = self._next_batch()
            ended = [one.lease for one in batch.ended if one.then is not Then.KEEP]
            await self._locking.release(self._worker_id, ended)
        refused = await self._recorder.send(pool)
        if refused and any(lease.resource in refused for lease in self._inflight.held()):
            await self._abandon()

    def _next_batch(self) -> Batch:
        batch = self._inflight.batch(self._worker_id, next(self._numbers))
        self._recorder.add(batch)
        return batch

    def _may_claim(self) -> bool:
        if self._drain_end is not None or self._inflight.alone:
            return False
        if not self._claiming.is_due(is_busy=bool(self._inflight)):
            return False
        return self._locking.wait_seconds() <= 0

    async def _claim(self, pool: WorkerPool) -> bool:
        """Lease what the pace allows, lock it, and hand it over. False: there was nothing."""
        settings = self._settings
        pace, resources, units = self._pace.ask(
            settings.slots, self._inflight.units, settings.resources_max, settings.units_max
        )
        size_bytes = BYTES_MAX - self._inflight.size_bytes
        if not resources or size_bytes <= 0 or not await self._locking.answers():
            return False
        unshared, asked = self._pace.unshared(settings.slots, resources), self._clock()
        job_id = settings.job_id if self._claiming.is_upkeep_due() else None
        leases = await pool.claim(self._worker_id, resources, units, size_bytes, unshared, now=asked, upkeep_of=job_id)
        self._observer.claimed(leases, asked)
        self._claiming.claimed(leases, resources, asked)
        if leases:
            self._keeper.claimed()
            self._pace = pace
            self._inflight.tally.claimed += len(leases)
            leases = await self._locked(leases)
            if leases and leases[0].suspect:
                self._inflight.parked = leases[0]
            else:
                self._executor.submit(self._inflight.give(leases, self._clock()))
        return bool(leases)

    async def _keep_up(self, pool: WorkerPool) -> None:
        """See to it that others hear of work while this one is busy, and that it hears what is cancelled."""
        if self._keeper.due_seconds() <= 0:
            self._keeper.kept_up()
            cancelled = await pool.keep_up(self._settings.job_id, self._worker_id)
            self._executor.cancel(self._inflight.places(cancelled))

    async def _locked(self, leases: list[Lease]) -> list[Lease]:
        """Give back what the lock backend refuses, and everything where it is away."""
        waits = await self._locking.acquire(self._worker_id, leases)
        self._inflight.tally.lock_tries += len(leases)
        for lease, wait_seconds in zip(leases, waits, strict=True):
            if wait_seconds > 0:
                self._inflight.tally.lock_refusals += 1
                self._inflight.end(self._locking.refused(lease, wait_seconds), self._clock())
        return [lease for lease, wait_seconds in zip(leases, waits, strict=True) if wait_seconds == 0]

    async def _collect(self, seconds: float) -> None:
        """Take in what the executor says, waiting at most so long for it."""
        try:
            async with asyncio.timeout(seconds):
                outcomes = await self._executor.outcomes()
        except TimeoutError:
            return
        except HandlerError as error:  # it cannot be started again
            self._failure = error
            self.drain()
            return
        now, ended = self._clock(), []
        for outcome in outcomes:
            settlement = self._inflight.take(outcome, now)
            if settlement is not None:
                ended.append((settlement.lease, outcome))
        self._timing.took(ended)
        self._pace = self._pace.measured(
            sum(one.tried - one.first for one in outcomes),
            sum(one.final for one in outcomes),
            sum(one.seconds for one in outcomes),
        )

    def _patience(self) -> float:
        due = self._inflight.due_seconds(self._clock())
        return max(0.0, min(SETTLE_SECONDS if due is None else due, self._keeper.due_seconds()))

    async def _rest(self, pool: WorkerPool) -> None:
        """Idle: ask now and then, the more seldom the more are idle, or when the pool calls."""
        if (gather_seconds := self._claiming.rest()) > 0:
            await self._pause(gather_seconds)
            self._idle.was_busy()
        if self._claiming.comes_again():
            return
        poll = await pool.poll(self._worker_id)
        lock_seconds = self._locking.wait_seconds()
        if lock_seconds > 0:
            await self._pause(lock_seconds)
        else:
            self._claiming.claimable = poll.claimable or await self._idle.sleep(
                lambda seconds: pool.sleep(self._settings.job_id, self._worker_id, seconds, self._wake),
                min(poll.sleep_seconds, self._chores.rest_seconds()),
            )

    async def _pause(self, seconds: float) -> None:
        """Wait so long, or until the worker is drained."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def _register_again(self) -> None:
        """Stop everything: the leases have passed to others. All of them are sent still, to be counted as stale."""
        self._observer.lost(self._worker_id)
        await self._abandon()
        if self._inflight.due_seconds(self._clock()) is not None:
            self._next_batch()
        self._worker_id = 0
        self._lease_end = 0.0
        self._set_deadline()

    async def _wait_for_pool(self, error: PoolError) -> None:
        self._observer.turned()
        self._observer.disconnected(error)
        wait_seconds = self._reconnect.wait_seconds(error)
        if self._drain_end is not None and not self._inflight and not self._recorder:
            self._left = True  # with nothing to give back; its row in the pool expires by itself
            return
        if self._drain_end and self._clock() > self._drain_end:
            raise error
        await asyncio.sleep(wait_seconds)

    def _extend(self, asked: float) -> None:
        self._renew_at = asked + self._settings.lease_seconds / RENEWALS_A_LEASE
        self._lease_end = asked + self._settings.lease_seconds * (1 - MARGIN)
        self._set_deadline()

    def _set_deadline(self) -> None:
        """Invariant: no unit starts, and none goes on, when the lease may have ended."""
        self._executor.shared_state.deadline = self._lease_end if self._drain_end is None else 0.0
        self._executor.shared_state.kill_at = (
            self._lease_end if self._drain_end is None else min(self._lease_end, self._drain_end)
        )
