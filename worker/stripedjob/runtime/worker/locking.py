"""The lock backend as the main loop uses it: calls that are bounded, and a backend that is away costs time alone."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from stripedjob.locks import LockBackend, LockUnavailable
from stripedjob.pool.types import Lease, Settlement, Then
from stripedjob.runtime.observe import Observer
from stripedjob.runtime.reconnect import backoff

REFUSED_SECONDS_MIN = 0.25  # a resource that the lock refused is not tried again before


@dataclass
class Locking:
    """Locks of leases. `lease_seconds` is how long they last."""

    backend: LockBackend
    lease_seconds: float
    observer: Observer
    clock: Callable[[], float]
    _tries: int = 0  # since it is away
    _retry_at: float = 0.0

    @property
    def is_away(self) -> bool:
        """Whether the last call that matters was not answered."""
        return self._tries > 0

    def wait_seconds(self) -> float:
        """Return the seconds until the backend is to be asked again; 0 or less: it is there, or it is time."""
        return self._retry_at - self.clock()

    async def answers(self) -> bool:
        """Ask the backend, where it was away: nothing is leased only to be given back."""
        if self.is_away:
            try:
                async with self._call():
                    await self.backend.ping()
            except LockUnavailable as error:
                self._went(error)
                return False
            self._tries = 0
            self.observer.lock_reachable(None)
        return True

    async def acquire(self, worker_id: int, leases: Sequence[Lease]) -> list[float]:
        """Take the locks; gives for each lease 0 where it was granted, else for how many seconds its holder has it.

        Where the backend is away none is granted: `is_away` says so.
        """
        asked = self.clock()
        try:
            async with self._call():
                waits = await self.backend.acquire(*_locks(worker_id, leases), int(self.lease_seconds * 1000))
        except LockUnavailable as error:
            self._went(error)
            return [self.lease_seconds] * len(leases)
        self.observer.locked(leases, asked)
        return [wait_ms / 1000 for wait_ms in waits]

    async def renew(self, worker_id: int, leases: Sequence[Lease]) -> None:
        """Extend the locks, if the backend is there: Postgres has the leases."""
        with contextlib.suppress(LockUnavailable):
            async with self._call():
                await self.backend.renew(*_locks(worker_id, leases), int(self.lease_seconds * 1000))

    async def release(self, worker_id: int, leases: Sequence[Lease]) -> None:
        """Give the locks back, if the backend is there: they expire."""
        with contextlib.suppress(LockUnavailable):
            async with self._call():
                await self.backend.release(*_locks(worker_id, leases))

    def refused(self, lease: Lease, wait_seconds: float) -> Settlement:
        """Put a resource off for as long as its lock's holder has it, but at most for a lease: it may be released."""
        if self.is_away:
            return Settlement(lease, Then.READY)
        wait_seconds = min(max(wait_seconds, REFUSED_SECONDS_MIN), self.lease_seconds)
        return Settlement(lease, Then.WAIT, wait_seconds=wait_seconds)

    def _went(self, error: LockUnavailable) -> None:
        self._retry_at = self.clock() + backoff(self._tries)
        self._tries += 1
        self.observer.lock_reachable(error)

    @contextlib.asynccontextmanager
    async def _call(self) -> AsyncIterator[None]:
        """Bound a call, so that it never costs the renewal of the leases."""
        try:
            async with asyncio.timeout(self.lease_seconds / 4):
                yield
        except TimeoutError as error:
            raise LockUnavailable("the lock backend did not answer in a quarter of the lease") from error


def _locks(worker_id: int, leases: Sequence[Lease]) -> tuple[list[str], list[str]]:
    """Return resources and tokens, each resource once: under a pool that was cleared it may be leased again."""
    tokens = {lease.resource: f"{worker_id}:{lease.fence}" for lease in leases}
    return list(tokens), list(tokens.values())
