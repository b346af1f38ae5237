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
    from collections.abc import Callable, Container, Iterable

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


class Bag:
    """The kinds that are still to come, before every kind comes again: over several worlds, all come equally often."""

    def __init__(self, kinds: Iterable[str], dice: random.Random) -> None:
        """Take all kinds."""
        self._kinds, self._dice, self._left = list(kinds), dice, list[str]()

    def leave_out(self, kinds: Container[str]) -> None:
        """Have these come no more."""
        self._kinds = [kind for kind in self._kinds if kind not in kinds]
        self._left = [kind for kind in self._left if kind not in kinds]

    def next(self, is_possible: Callable[[str], bool]) -> str | None:
        """Give the next one that is possible now; it is to come until it is taken out."""
        if not self._left:
            self._left = self._dice.sample(self._kinds, len(self._kinds))
        return next(filter(is_possible, self._left), None)

    def take_out(self, kind: str) -> None:
        """Have this one come again when all have come."""
        self._left.remove(kind)


class Nemesis:
    """Makes faults in one world. `made`: how many of each kind."""

    def __init__(self, world: World, bag: Bag, dice: random.Random) -> None:
        """Take the world and the kinds to come."""
        self._world, self._bag, self._dice = world, bag, dice
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
