"""Makes faults by a seeded schedule: every kind in turn, in an order and with victims that the seed decides."""

from __future__ import annotations

import heapq
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.faults.host_faults import HOST_FAULTS
from tests.faults.server_faults import SERVER_FAULTS

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from tests.faults.bag import Bag
    from tests.faults.host_faults import Heal
    from tests.faults.world import World

KINDS = HOST_FAULTS | SERVER_FAULTS
# Of each of these, one fault at a time: the next one waits until the one before it is healed.
EXCLUSIVE = {
    **dict.fromkeys(("postgres_fast", "postgres_immediate", "postgres_kill", "read_only", "standby"), "postgres"),
    **dict.fromkeys(("valkey_kill", "valkey_restart", "valkey_flush", "valkey_failover"), "valkey"),
}
NEEDS_POSTGRES = {"terminate", "snapshot", "schedule_hangs"}  # one that can be written to
LOOK_SECONDS = 0.1


@dataclass(order=True)
class _Due:
    at: float
    number: int
    kind: str = field(compare=False)
    act: Callable[[], object] = field(compare=False)


class Nemesis:
    """Makes faults in one world. `made`: how many of each kind."""

    def __init__(self, world: World, bag: Bag, rng: random.Random) -> None:
        """Take the world and the kinds to come."""
        self._world, self._bag, self._dice = world, bag, rng
        bag.leave_out(world.unsupported)
        self.made: Counter[str] = Counter()
        self._heals: list[_Due] = []
        self._number = 0

    def run(self, faults: int, every_seconds: float) -> None:
        """Make so many faults, one as often as that where one is possible, and heal all in the end."""
        next_at = time.monotonic()
        while self.made.total() < faults:
            self._heal(time.monotonic())
            self._world.tend()
            if time.monotonic() >= next_at:
                self._make()
                next_at += every_seconds
            time.sleep(LOOK_SECONDS)
        self._heal(float("inf"))
        lost = [*(host.postgres for host in self._world.hosts), self._world.feeding]
        self.made["lose_answer"] = sum(way.answers_lost for way in lost)
        self._world.last_healed_at = time.monotonic()

    def _make(self) -> None:
        kind = self._bag.next(self._is_possible)
        if kind is None:
            return
        heal: Heal | None = KINDS[kind](self._world, self._dice)
        if heal is None:
            return  # there was nobody whom it could befall
        self._bag.take_out(kind)
        self.made[kind] += 1
        self._number += 1
        heapq.heappush(self._heals, _Due(time.monotonic() + heal.seconds, self._number, kind, heal.act))

    def _is_possible(self, kind: str) -> bool:
        busy = {one.kind for one in self._heals} | {EXCLUSIVE.get(one.kind) for one in self._heals}
        if kind in NEEDS_POSTGRES and "postgres" in busy:
            return False
        return kind not in busy and EXCLUSIVE.get(kind) not in busy - {None}

    def _heal(self, now: float) -> None:
        while self._heals and self._heals[0].at <= now:
            heapq.heappop(self._heals).act()
