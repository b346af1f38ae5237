"""What a worker has leased and not yet recorded: plain bookkeeping, no I/O. The loop owns one.

Lease → given to the executor under a key → outcomes → settlements → one Batch, which is kept until Postgres has it.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from stripedjob.pool.types import Batch, Lease, Settlement, Tally, Then
from stripedjob.runtime.outcome import Outcome
from stripedjob.runtime.worker.decide import RetryPolicy, settle

SETTLE_SECONDS = 0.1  # an outcome waits at most so long for others before it is recorded
SETTLE_UNITS = 2_000  # and at most so many wait together


@dataclass(slots=True)
class Inflight:
    """The leases of one worker, and what waits to be recorded. `units`: handed to the executor and not yet tried.

    `size_bytes`: of the payloads of all leases that are at work.

    `parked`: a suspect that waits until nothing else is leased. Invariant: a suspect runs alone, so that a death with
    it has one culprit.
    """

    policy: RetryPolicy
    rng: random.Random
    leases: dict[int, Lease] = field(default_factory=dict)
    parked: Lease | None = None
    units: int = 0
    size_bytes: int = 0
    tally: Tally = field(default_factory=Tally)
    _settlements: list[Settlement] = field(default_factory=list)
    _units_waiting: int = 0
    _oldest: float = 0.0
    _keys: int = 0

    def __bool__(self) -> bool:
        """Return whether anything is leased or waits to be recorded."""
        return bool(self.leases or self._settlements or self.parked)

    @property
    def alone(self) -> bool:
        """Whether a suspect is at work or wants to be: nothing else may be leased."""
        return self.parked is not None or any(lease.suspect for lease in self.leases.values())

    def held(self) -> list[Lease]:
        """All leases whose locks must be renewed."""
        return [*self.leases.values(), *([self.parked] if self.parked else [])]

    def fences(self) -> list[int]:
        """Return the fences of all leases that are known here: at work, parked, or waiting to be recorded."""
        return [lease.fence for lease in (*self.held(), *(one.lease for one in self._settlements))]

    def places(self, reasons: dict[int, str]) -> dict[tuple[int, int], str]:
        """Return (key of the lease, place in it) → reason for those of these units that are at work."""
        if not reasons:
            return {}
        leases = self.leases.items()
        return {(key, i): reasons[unit] for key, one in leases for i, unit in enumerate(one.ids) if unit in reasons}

    def give(self, leases: Iterable[Lease], now: float) -> list[tuple[int, Lease]]:
        """Take leases in; returns those with work in them, each with its key."""
        given = []
        for lease in leases:
            if lease.ids:
                self._keys += 1
                given.append((self._keys, lease))
                self.units += len(lease.ids)
                self.size_bytes += lease.size_bytes
            else:  # nothing to do after all
                self.end(Settlement(lease, Then.IDLE), now)
        self.leases |= dict(given)
        return given

    def unpark(self, now: float) -> list[tuple[int, Lease]]:
        """Return the parked suspect, if its time has come."""
        if self.parked is None or self.leases or self._settlements:
            return []
        lease, self.parked = self.parked, None
        return self.give([lease], now)

    def take(self, outcome: Outcome, now: float) -> Settlement | None:
        """Take an outcome in; None where its lease is not ours any more."""
        lease = self.leases.get(outcome.key)
        if lease is None:
            return None
        settlement = settle(lease, outcome, self.policy, self.rng)
        self.tally.recorded += outcome.recorded
        self.units -= outcome.tried - outcome.first
        if outcome.final:
            self.units -= len(lease.ids) - outcome.tried
            self.size_bytes -= lease.size_bytes
            del self.leases[outcome.key]
        self.end(settlement, now)
        return settlement

    def end(self, settlement: Settlement, now: float) -> None:
        """Keep a settlement until it is recorded."""
        if not self._settlements:
            self._oldest = now
        self._settlements.append(settlement)
        self._units_waiting += len(settlement.done)

    def due_seconds(self, now: float) -> float | None:
        """Seconds until what waits should be recorded, 0 or less: now; None: nothing waits."""
        if not self._settlements:
            return None
        if not self.leases or self._units_waiting >= SETTLE_UNITS:
            return 0.0
        return self._oldest + SETTLE_SECONDS - now

    def abandon(self, now: float) -> None:
        """Let go of all leases: their units go back as they were, where the leases are still ours."""
        for lease in self.held():
            self.end(Settlement(lease, Then.READY), now)
        self.leases, self.parked, self.units, self.size_bytes = {}, None, 0, 0

    def batch(self, worker_id: int, number: int) -> Batch:
        """Take out all that waits, as one batch."""
        batch = Batch(worker_id, number, tuple(_merged(self._settlements)), self.tally)
        self._settlements, self._units_waiting, self.tally = [], 0, Tally()
        return batch


def _merged(settlements: Iterable[Settlement]) -> list[Settlement]:
    """Make one settlement of several of the same lease, in order: a statement can move a row only once."""
    merged: dict[int, Settlement] = {}
    for one in settlements:
        before = merged.get(one.lease.fence)
        merged[one.lease.fence] = (
            one
            if before is None
            else Settlement(one.lease, one.then, before.done + one.done, before.failed + one.failed, one.wait_seconds)
        )
    return list(merged.values())
