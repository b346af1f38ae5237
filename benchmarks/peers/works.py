"""The works that neighbours are measured by. Each is run on a neighbour's own database, with workers of its own.

Called by bench.py. The clock of a drain starts when workers that are there, have worked a little and are held back are
let to work, right after the commit of what was loaded, and ends when the neighbour knows that all is done: the first
claim, stale statistics and whatever is put off at loading are in. Nothing is analyzed or folded before.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from servers import Servers

from peers.checker import Verdict, efficiency, judge, parse, percentiles
from peers.fetch import MissingError
from peers.peer import Cell, Peer

WARM = (1_000, 100)
SHAPES = {"seed": (10_000, 1_000), "one": (100_000, 100_000), "wide": (100_000, 10_000), "hot": (5_000, 5)}
SLEEP = (8_000, 800, 0.001)
SLEEPERS = 4
IDLE = (1, 8)
LATENCY_UNITS, LATENCY_APART_SECONDS, LATENCY_WARM = 300, 0.1, 20
TRICKLE_UNITS, TRICKLE_APART_SECONDS = 6_000, 0.005
RECORDED = (3_000, 50, 0.001)
CELL_SECONDS_MAX = 300.0
POLL_SECONDS = 0.005
POLL_SHARE = 5  # who asks whether all is done rests five times as long as the answer took, so as not to be in the way

Row = dict[str, Any]
Kind = type[Peer]


@dataclass(frozen=True, slots=True)
class Site:
    """Where it is measured: both servers, and a directory for logs and records."""

    servers: Servers
    folder: Path

    def records(self) -> Path:
        """Return an empty file for records."""
        path = self.folder / f"records-{time.monotonic_ns()}"
        path.touch()
        return path


def fitted(kind: Kind, units: int, resources: int) -> tuple[int, int]:
    """Return a shape, or a smaller one like it for a neighbour that is slow."""
    most = min(units, kind.units_max or units)
    return most, max(1, resources * most // units)


def await_empty(peer: Peer) -> None:
    """Wait until all is done; raises MissingError when it takes too long."""
    deadline = time.monotonic() + CELL_SECONDS_MAX
    while True:
        asked = time.monotonic()
        if peer.is_empty():
            return
        peer.check()
        answered = time.monotonic()
        if answered > deadline:
            raise MissingError(f"it was not done after {CELL_SECONDS_MAX:.0f} s")
        time.sleep(max(POLL_SECONDS, POLL_SHARE * (answered - asked)))


def drain(peer: Peer, units: int, resources: int, seconds: float = 0.0) -> Row:
    """Load, let the workers work, and give the rate and the CPU in microseconds a unit."""
    peer.load(units, resources, seconds)
    before, began = peer.cpu(), time.perf_counter()
    peer.go()
    await_empty(peer)
    took, after = time.perf_counter() - began, peer.cpu()
    peer.stop()
    return {"units": units, "resources": resources, "units_per_second": units / took, **per_unit(before, after, units)}


def per_unit(before: dict[str, float], after: dict[str, float], units: int) -> dict[str, float]:
    """Return the CPU of each group between two readings, in microseconds a unit."""
    return {f"{group}_us": (after[group] - before[group]) * 1e6 / units for group in before}


def throughput(shape: tuple[int, int]) -> Callable[[Site, Kind], list[Row]]:
    """Make the work of a shape: units that take no time, two processes."""

    def work(site: Site, kind: Kind) -> list[Row]:
        with kind(Cell(site.servers, site.folder)) as peer:
            drain(peer, *fitted(kind, *WARM))
            return [drain(peer, *fitted(kind, *shape))]

    return work


def sleeping(site: Site, kind: Kind) -> list[Row]:
    """Have units worked that take a millisecond, by four processes with one at a time."""
    units, resources, seconds = SLEEP
    records = site.records()
    with kind(Cell(site.servers, site.folder, SLEEPERS, one_at_a_time=True, records=records)) as peer:
        drain(peer, *fitted(kind, *WARM))
        records.write_bytes(b"")
        row = drain(peer, *fitted(kind, units, resources), seconds)
    took = row["units"] / row["units_per_second"]
    return [row | {"efficiency": efficiency(parse(records.read_text()), took, SLEEPERS)}]


def latency(site: Site, kind: Kind) -> list[Row]:
    """Measure from the return of the commit to the start of the handler, in milliseconds, with idle workers."""
    return [_latency(site, kind, idle) for idle in IDLE]


def _latency(site: Site, kind: Kind, idle: int) -> Row:
    records = site.records()
    committed: dict[int, int] = {}
    with kind(Cell(site.servers, site.folder, idle, at_rest=True, records=records)) as peer:
        peer.go()
        for first, count in ((1, LATENCY_WARM), (1 + LATENCY_WARM, LATENCY_UNITS)):
            began = time.monotonic()
            for step in range(count):
                _until(began + step * LATENCY_APART_SECONDS)
                peer.enqueue(first + step, first + step)
                committed[first + step] = time.monotonic_ns()
        await_empty(peer)
        peer.stop()
    started = {one.unit: one.began for one in parse(records.read_text())}
    waits = [(started[n] - committed[n]) / 1e6 for n in committed if n > LATENCY_WARM]
    return {"idle_workers": idle, "units": len(waits), **{f"{name}_ms": ms for name, ms in percentiles(waits).items()}}


def trickle(site: Site, kind: Kind) -> list[Row]:
    """Put 200 units a second in, one by one, for half a minute, and give the CPU; two workers."""
    with kind(Cell(site.servers, site.folder, at_rest=True)) as peer:
        peer.go()
        peer.enqueue(0, 0)
        await_empty(peer)
        before, began = peer.cpu(), time.monotonic()
        for step in range(TRICKLE_UNITS):
            _until(began + step * TRICKLE_APART_SECONDS)
            peer.enqueue(1 + step, 1 + step)
        await_empty(peer)
        took, after = time.monotonic() - began, peer.cpu()
        peer.stop()
    rate = {"units": TRICKLE_UNITS, "units_per_second": TRICKLE_UNITS / took}
    return [rate | per_unit(before, after, TRICKLE_UNITS)]


def recorded(site: Site, kind: Kind) -> Verdict:
    """Judge a run: half of the units are there before, the others come one by one while it goes."""
    units, resources, seconds = RECORDED
    units, _ = fitted(kind, units, resources)
    records = site.records()
    with kind(Cell(site.servers, site.folder, records=records)) as peer:
        for unit in range(1, units + 1):
            peer.enqueue(unit, unit % resources, seconds)
            if unit == units // 2:
                peer.go()
        await_empty(peer)
        peer.stop()
    return judge(parse(records.read_text()), range(1, units + 1))


def _until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


WORKS: dict[str, Callable[[Site, Kind], list[Row]]] = {
    **{name: throughput(shape) for name, shape in SHAPES.items()},
    "sleep": sleeping,
    "latency": latency,
    "trickle": trickle,
}
