"""What can happen to hosts and to the network: each fault begins when called, and says when and how it is healed."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from typing import TYPE_CHECKING, NamedTuple

from tests.faults.history import Pause
from tests.faults.world import LEASE_SECONDS

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from tests.faults.hosts import Host
    from tests.faults.proxy import Proxy
    from tests.faults.world import World

STOP_SECONDS = (LEASE_SECONDS + 0.5, LEASE_SECONDS + 2.0)  # beyond the lease
SLOW_SECONDS = 0.15  # a chunk
COMMIT = rb"COMMIT|commit"
ANSWERS = (COMMIT, rb"settle\(", rb"complete\(", rb"claim\(", rb"register\(|keep_only\(|resume\(", rb"renew\(")
CLOCK_STEPS_SECONDS = (-86_400, -60, -5, 5, 60, 86_400)


class Heal(NamedTuple):
    """After so many seconds, do this."""

    seconds: float
    act: Callable[[], None]


def nothing() -> None:
    """Heal by itself."""


def kill_worker(world: World, rng: random.Random) -> Heal | None:
    return _kill([(host, pid) for host in world.hosts for pid in host.mains()], rng)


def kill_executor(world: World, rng: random.Random) -> Heal | None:
    return _kill([(host, pid) for host in world.hosts for pid in host.executors()], rng)


def kill_supervisor(world: World, rng: random.Random) -> Heal | None:
    return _kill([(host, host.pid) for host in world.hosts if host.role == "supervisor" and host.pid], rng)


def stop_worker(world: World, rng: random.Random) -> Heal | None:
    return _stop(world, [[pid] for host in world.hosts for pid in host.mains()], rng)


def stop_executor(world: World, rng: random.Random) -> Heal | None:
    return _stop(world, [[pid] for host in world.hosts for pid in host.executors()], rng)


def stop_supervisor(world: World, rng: random.Random) -> Heal | None:
    return _stop(world, [[host.pid] for host in world.hosts if host.role == "supervisor" and host.pid], rng)


def stop_host(world: World, rng: random.Random) -> Heal | None:
    """Stop a whole host, as a virtual machine is paused."""
    hosts = [[*([host.pid] if host.pid else []), *host.mains(), *host.executors()] for host in world.hosts]
    return _stop(world, [pids for pids in hosts if pids], rng)


def cut(world: World, rng: random.Random) -> Heal:
    """Cut all connections of a host, or of the applications, to Postgres."""
    world.network.do(_one_way(world, rng).cut)
    return Heal(0, nothing)


def slow(world: World, rng: random.Random) -> Heal:
    """Slow a host's connections down."""
    host = rng.choice(world.hosts)

    def delay(seconds: float) -> None:
        host.postgres.delay_seconds = host.valkey.delay_seconds = seconds

    world.network.do(lambda: delay(SLOW_SECONDS))
    return Heal(rng.uniform(2, 4), lambda: world.network.do(lambda: delay(0)))


def partition(world: World, rng: random.Random) -> Heal:
    """Let nothing pass to and from a host, for longer than a lease; nobody is told."""
    host = rng.choice(world.hosts)

    def block(*, is_blocked: bool) -> None:
        for way in (host.postgres, host.valkey):
            way.passes.clear() if is_blocked else way.passes.set()

    world.network.do(lambda: block(is_blocked=True))
    return Heal(rng.uniform(*STOP_SECONDS), lambda: world.network.do(lambda: block(is_blocked=False)))


def lose_answer(world: World, rng: random.Random) -> Heal:
    """Lose, on each way, the answer to the next call or commit of some kind; those are counted that were lost."""
    ways = [*(host.postgres for host in world.hosts), world.feeding]
    words = [re.compile(COMMIT if way is world.feeding else rng.choice(ANSWERS)) for way in ways]

    def arm(loses: Sequence[re.Pattern[bytes] | None]) -> None:
        for way, what in zip(ways, loses, strict=True):
            way.loses = what

    world.network.do(lambda: arm(words))
    return Heal(LEASE_SECONDS, lambda: world.network.do(lambda: arm([None] * len(ways))))


def log_full(world: World, rng: random.Random) -> Heal:
    """Fill the log volume of a host."""
    host = rng.choice(world.hosts)
    host.fill_volume()
    return Heal(rng.uniform(2, 5), host.free_volume)


def clock_step(world: World, rng: random.Random) -> Heal:
    """Step the wall clock of a host, and back."""
    host = rng.choice(world.hosts)
    host.step_clock(rng.choice(CLOCK_STEPS_SECONDS))
    return Heal(rng.uniform(2, 5), lambda: host.step_clock(0))


def _one_way(world: World, rng: random.Random) -> Proxy:
    return rng.choice([*(host.postgres for host in world.hosts), world.feeding])


def _kill(found: Sequence[tuple[Host, int]], rng: random.Random) -> Heal | None:
    if not found:
        return None
    host, pid = rng.choice(found)
    host.kill(pid)
    return Heal(0, nothing)


def _stop(world: World, found: Sequence[list[int]], rng: random.Random) -> Heal | None:
    """Stop processes together, and let them go on after their leases; the last to stop goes on first."""
    if not found:
        return None
    pids = rng.choice(found)
    began = time.monotonic()
    _signal(pids, signal.SIGSTOP)

    def go_on() -> None:
        _signal(pids[::-1], signal.SIGCONT)
        world.pauses += [Pause(pid, began, time.monotonic()) for pid in pids]

    return Heal(rng.uniform(*STOP_SECONDS), go_on)


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


HOST_FAULTS = {
    fault.__name__: fault
    for fault in (
        *(kill_worker, kill_executor, kill_supervisor, stop_worker, stop_executor, stop_supervisor, stop_host),
        *(cut, slow, partition, lose_answer, log_full, clock_step),
    )
}
