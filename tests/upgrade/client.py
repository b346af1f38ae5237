"""Run with a release of the package on its path: puts units in, or does what the operator does, until SIGTERM.

Usage: client.py enqueue|operate URL. Says how often it did. What fails but for a lost connection ends it.
"""

import asyncio
import signal
import sys
import time

import psycopg

import stripedjob
from stripedjob import NewUnit
from stripedjob.pool.client.bounded import BoundedPool
from stripedjob.pool.client.owner import OwnerPool
from stripedjob.pool.errors import PoolUnreachableError
from stripedjob.pool.types import JobSettings

RESOURCES = 20
PAUSE_SECONDS = 0.05
CALL_SECONDS_MAX = 10.0


def enqueue(url: str) -> int:
    """Put in one unit by Python, one by SQL and two together, each time with one commit."""
    done = 0
    with psycopg.connect(url) as conn:
        while not over:
            stripedjob.enqueue(conn, "seed", NewUnit(resource=f"r{done % RESOURCES}"))
            stripedjob.enqueue_many(conn, "seed", [NewUnit(resource=f"r{done % 7}")] * 2)
            conn.execute("select striped.enqueue('seed', %s, '{}')", [f"r{done % 3}"])
            conn.commit()
            done += 4
            time.sleep(PAUSE_SECONDS)
    return done


def operate(url: str) -> int:
    """Do what the operator does with a database, from connecting on."""
    return asyncio.run(_operate(url))


async def _operate(url: str) -> int:
    done = 0
    while not over:
        try:
            async with BoundedPool.open(url, "striped", OwnerPool) as pool:
                while not over:
                    await pool.call(_tick, CALL_SECONDS_MAX)
                    done += 1
                    await asyncio.sleep(PAUSE_SECONDS)
        except PoolUnreachableError as error:
            print(error, file=sys.stderr)  # noqa: T201
    return done


def _tick(admin: OwnerPool) -> None:
    settings = admin.settings("default", "seed")
    assert isinstance(settings, JobSettings)
    job_id = admin.apply(settings)
    admin.tend([job_id])
    admin.workers(job_id)
    admin.clean([job_id])
    admin.explain(job_id, "r1")
    admin.waiting(job_id)


over: list[int] = []
signal.signal(signal.SIGTERM, lambda number, _: over.append(number))
print({"enqueue": enqueue, "operate": operate}[sys.argv[1]](sys.argv[2]))  # noqa: T201
