"""The worker's main loop, read as a list of verbs: collect → settle → claim → lock → submit, and a heartbeat beside it.

Called by `stripedjob worker`. One coroutine does the verbs in turn, so that a lease is in one place at a time; the
handler runs in another process meanwhile (host.py). A batch costs five round trips whatever its size: upkeep, claim and
settle in Postgres, acquire and release in the lock backend.
"""

import asyncio
import contextlib
import random
import time
from dataclasses import dataclass, field

from stripedjob.locks import LockBackend, LockUnavailable
from stripedjob.pool.errors import PoolUnreachableError
from stripedjob.pool.types import Lease, Settlement, Tally, Then
from stripedjob.pool.worker import WorkerPool
from stripedjob.runtime.decide import RetryPolicy, settle
from stripedjob.runtime.host import Host
from stripedjob.runtime.pace import Pace
from stripedjob.runtime.work import Outcome

SETTLE_SECONDS = 0.1  # an outcome waits at most so long for others before it is recorded
SETTLE_UNITS = 2_000  # and at most so many wait together
REFUSED_SECONDS = 0.25  # a resource that the lock refused is not tried again before
RENEWALS_A_LEASE = 3
MARGIN = 1 / 6  # of the lease: no unit starts so near its end, and work that still runs is ended
RETRY_SECONDS = 0.5  # between two tries of an engine that cannot be reached


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What a worker needs to know of its job."""

    job_id: int
    name: str
    lease_seconds: float
    resources_max: int
    units_max: int
    slots: int
    policy: RetryPolicy


@dataclass(slots=True)
class Ahead:
    """The leases that the executor has, and what waits to be recorded."""

    leases: dict[int, Lease] = field(default_factory=dict)
    settlements: list[Settlement] = field(default_factory=list)
    units: int = 0
    units_waiting: int = 0
    oldest: float = 0.0

    def add(self, settlement: Settlement, now: float) -> None:
        """Keep a settlement until it is recorded."""
        if not self.settlements:
            self.oldest = now
        self.settlements.append(settlement)
        self.units_waiting += len(settlement.done)

    def settle_due(self, now: float) -> float:
        """Seconds until the settlements should be recorded; 0 or less: now."""
        if not self.leases or self.units_waiting >= SETTLE_UNITS:
            return 0.0
        return self.oldest + SETTLE_SECONDS - now


class Worker:
    """One worker. `run()` works until `drain()` is called and everything leased has been settled."""

    def __init__(self, settings: WorkerSettings, pool: WorkerPool, lock: LockBackend, host: Host) -> None:
        """Take what it works with; the caller opens and closes them."""
        self._settings, self._pool, self._lock, self._host = settings, pool, lock, host
        self._clock = time.monotonic
        self._dice = random.Random()  # noqa: S311 - jitter
        self._pace = Pace()
        self._ahead = Ahead()
        self._tally = Tally()
        self._keys = 0
        self._worker_id = 0
        self._wake = asyncio.Event()
        self._draining = False

    def drain(self) -> None:
        """Take no more: what runs is finished, what was not started goes back."""
        self._draining = True
        self._host.board.deadline = 0.0
        self._wake.set()

    async def run(self) -> None:
        """Register, work, leave."""
        self._worker_id = await self._pool.register(self._settings.job_id, self._settings.name)
        self._extend(self._clock())
        heartbeat = asyncio.create_task(self._beat())
        try:
            while not self._draining or self._ahead.leases or self._ahead.settlements:
                await self._turn()
        finally:
            heartbeat.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await heartbeat
        await self._pool.leave(self._worker_id)

    async def _turn(self) -> None:
        """Go once through the verbs."""
        if self._ahead.settlements and self._ahead.settle_due(self._clock()) <= 0:
            await self._settle()
        claimed = not self._draining and await self._claim()
        if self._ahead.leases:
            await self._collect(0.0 if claimed else self._patience())
        elif not claimed and not self._ahead.settlements and not self._draining:
            await self._rest()

    def _patience(self) -> float:
        if not self._ahead.settlements:
            return SETTLE_SECONDS
        return max(0.0, self._ahead.settle_due(self._clock()))

    async def _collect(self, seconds: float) -> None:
        """Take in what the executor says, waiting at most so long for it."""
        try:
            outcomes = await asyncio.wait_for(self._host.outcomes(), seconds) if seconds else self._host.outcomes_now()
        except TimeoutError:
            return
        now = self._clock()
        units = 0
        for outcome in outcomes:
            units += outcome.tried - outcome.first
            self._take(outcome, now)
        resources = sum(outcome.final for outcome in outcomes)
        self._pace = self._pace.measured(units, resources, sum(outcome.seconds for outcome in outcomes))

    def _take(self, outcome: Outcome, now: float) -> None:
        lease = self._ahead.leases[outcome.key]
        self._ahead.add(settle(lease, outcome, self._settings.policy, self._dice), now)
        self._ahead.units -= outcome.tried - outcome.first
        if outcome.final:
            self._ahead.units -= len(lease.ids) - outcome.tried
            del self._ahead.leases[outcome.key]

    async def _settle(self) -> None:
        """Give locks back, then record: the other way round, the next claimer would find the lock still taken."""
        settlements, self._ahead.settlements, self._ahead.units_waiting = self._ahead.settlements, [], 0
        tally, self._tally = self._tally, Tally()
        merged = _merge(settlements)
        ended = [one.lease for one in merged if one.then is not Then.KEEP]
        with contextlib.suppress(LockUnavailable):  # it expires
            await self._lock.release([lease.resource for lease in ended], [self._token(lease) for lease in ended])
        await self._pool.settle(self._settings.job_id, self._worker_id, merged, tally)

    async def _claim(self) -> bool:
        """Lease what the pace allows, lock it, and hand it over. False: nothing was to be had."""
        settings = self._settings
        pace, resources, units = self._pace.ask(
            settings.slots, self._ahead.units, settings.resources_max, settings.units_max
        )
        if not resources:
            return False
        await self._pool.upkeep(settings.job_id)
        leases = await self._pool.claim(self._worker_id, resources, units)
        if leases:
            self._pace = pace
            self._tally.claimed += len(leases)
            self._submit(await self._locked(leases))
        return bool(leases)

    async def _locked(self, leases: list[Lease]) -> list[Lease]:
        """Give back what the lock backend refuses."""
        ttl_ms = int(self._settings.lease_seconds * 1000)
        tokens = [self._token(lease) for lease in leases]
        self._tally.lock_tries += len(leases)
        try:
            waits = await self._lock.acquire([lease.resource for lease in leases], tokens, ttl_ms)
        except LockUnavailable:
            waits = [int(RETRY_SECONDS * 1000)] * len(leases)
        refused = [lease for lease, wait_ms in zip(leases, waits, strict=True) if wait_ms]
        self._tally.lock_refusals += len(refused)
        for lease in refused:
            self._ahead.add(Settlement(lease, Then.WAIT, wait_seconds=REFUSED_SECONDS), self._clock())
        return [lease for lease, wait_ms in zip(leases, waits, strict=True) if not wait_ms]

    def _submit(self, leases: list[Lease]) -> None:
        keyed = []
        for lease in leases:
            if not lease.ids:  # nothing to do after all
                self._ahead.add(Settlement(lease, Then.IDLE), self._clock())
                continue
            self._keys += 1
            keyed.append((self._keys, lease))
            self._ahead.units += len(lease.ids)
        self._ahead.leases |= dict(keyed)
        self._host.submit(keyed)

    async def _rest(self) -> None:
        """Idle: ask now and then, the more seldom the more are idle."""
        poll = await self._pool.poll(self._worker_id)
        self._extend(self._clock())
        if not poll.claimable:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), poll.sleep_seconds)

    async def _beat(self) -> None:
        """Renew lease and locks; whatever runs is ended before a lease that could not be renewed ends."""
        seconds = self._settings.lease_seconds / RENEWALS_A_LEASE
        while True:
            await asyncio.sleep(seconds)
            asked = self._clock()
            leases = list(self._ahead.leases.values())
            with contextlib.suppress(LockUnavailable, PoolUnreachableError):
                ttl_ms = int(self._settings.lease_seconds * 1000)
                await self._lock.renew(
                    [lease.resource for lease in leases], [self._token(lease) for lease in leases], ttl_ms
                )
                await self._pool.renew(self._worker_id)
                self._extend(asked)
            if self._host.board.deadline and self._clock() >= self._host.board.deadline:
                await self._host.kill()

    def _extend(self, asked: float) -> None:
        if not self._draining:
            self._host.board.deadline = asked + self._settings.lease_seconds * (1 - MARGIN)

    def _token(self, lease: Lease) -> str:
        return f"{self._worker_id}:{lease.fence}"


def _merge(settlements: list[Settlement]) -> list[Settlement]:
    """Make one settlement of several of the same lease, in order: a statement can move a row only once."""
    merged: dict[tuple[str, int], Settlement] = {}
    for one in settlements:
        key = (one.lease.resource, one.lease.fence)
        before = merged.get(key)
        if before is not None:
            one = Settlement(  # noqa: PLW2901
                one.lease, one.then, before.done + one.done, before.failed + one.failed, one.wait_seconds
            )
        merged[key] = one
    return list(merged.values())
