"""Units put in one by one by eight sessions: with the call to idle workers, and with it switched off, in turn.

Run by `scripts/bench enqueue`. A durable Postgres; the sessions are pgbench's, one transaction a unit; the call is the
trigger `call` of the table `wake`, which this benchmark disables in its own database. `idle`: eight workers are there,
listen, and do not come, so that whoever can calls one; `working`: two workers work the units; `busy`: two workers have
a long unit each. Rates are medians of the rounds, `ratio` is of what goes without the call.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from growth.feed import Enqueuers
from growth.many import beneath
from growth.scene import Scene, Site, scene
from local import await_

from stripedjob.pool.client.worker import WorkerPool

ROUNDS = 5
ROUND_SECONDS = 4.0
IDLE = 8
SWITCH = "alter table striped.wake {} trigger call"
LONG = """
insert into striped.unit (job_id, resource, payload)
select %(job)s, 'long-' || n, '{"s": 600}' from generate_series(1, 2) n"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take how often each is measured."""
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help="how often each is measured")


@contextmanager
def idle(site: Site) -> Iterator[Scene]:
    """Have workers that listen, and do not come."""
    with scene(site, workers=0) as there:

        async def listen(end: asyncio.Event) -> None:
            await asyncio.gather(*(ear(there, n, end) for n in range(IDLE)))

        there.open()
        with beneath(listen):
            await_("the workers are there", lambda: len(there.pool.workers(there.job_id)) == IDLE)
            yield there


async def ear(there: Scene, number: int, end: asyncio.Event) -> None:
    """Be a worker that asks every second and is never seen to work."""
    async with WorkerPool.open(there.servers.postgres.url) as pool:
        worker = await pool.register(there.job_id, f"ear-{number}")
        while not end.is_set():
            await pool.poll(worker)
            await asyncio.sleep(1)
            await pool.sleep(there.job_id, worker, 0, end)


@contextmanager
def working(site: Site) -> Iterator[Scene]:
    """Have workers that work what comes."""
    with scene(site) as there:
        there.open()
        yield there


@contextmanager
def busy(site: Site) -> Iterator[Scene]:
    """Have workers that are at something long."""
    with scene(site, handler={"python": "noop:work"}, warm=False) as there:
        there.pool.conn.execute(LONG, {"job": there.job_id})
        there.open()
        await_("both are at work", lambda: there.pool.status(there.job_id).leased_resources == 2)  # noqa: PLR2004
        yield there


CREWS: dict[str, Callable[[Site], AbstractContextManager[Scene]]] = {"idle": idle, "working": working, "busy": busy}


def measure(there: Scene, rounds: int) -> dict[str, Any]:
    """Put units in with and without the call, in turn."""
    rates: dict[str, list[float]] = {"enable": [], "disable": []}
    for turn in range(rounds + 1):  # the first one warms up
        for switch, found in rates.items():
            there.pool.conn.execute(SWITCH.format(switch).encode())
            with Enqueuers(there, ROUND_SECONDS) as enqueuers:
                rate = enqueuers.rate()
            if turn > 0:
                found.append(rate)
            time.sleep(0.5)
    called, without = (statistics.median(rates[switch]) for switch in ("enable", "disable"))
    return {
        "units_per_second": round(called),
        "without_call": round(without),
        "ratio": round(statistics.median(a / b for a, b in zip(*rates.values(), strict=True)), 2),
        "lowest": round(min(a / b for a, b in zip(*rates.values(), strict=True)), 2),
    }


def main(path: Path, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure beside idle, working and busy workers."""
    site = Site(path, quick=False, minutes=0, say=lambda _: None)
    for name, crew in CREWS.items():
        with crew(site) as there:
            yield {"workers": name} | measure(there, options.rounds)
