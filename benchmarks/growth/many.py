"""Many workers of one job, and many jobs of one pool. Most are sessions that do what an idle worker's does."""

import asyncio
import heapq
import random
import statistics
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from local import await_
from servers import tree_seconds

from growth.scene import Row, Scene, Site, beside, load, scene
from stripedjob.pool.client.worker import WorkerPool

CREW = 8
ROWS = 64
JOBS = 1000
UNITS = 50_000  # a round; of fewer, the idle workers' questions when it begins are a part
CLEAN_SECONDS = 30.0  # between two calls of clean() of one worker, as in runtime/loop.py
MAKE_JOBS = """
with job as (
    insert into striped.job (namespace, job_type) select 'rest', 'rest-' || n from generate_series(1, %(jobs)s) n
    returning id
), flow as (insert into striped.flow (job_id) select id from job)
insert into striped.turn (job_id, kind, at) select id, kind, case kind when 'refit' then 'infinity' else now() end
from job, unnest('{upkeep,clean,schedule,refit}'::text[]) kind"""


@contextmanager
def beneath(work: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> Iterator[None]:
    """Run a coroutine in a thread, which ends when the event is set that it is given."""
    loop, end = asyncio.new_event_loop(), asyncio.Event()
    failed: list[BaseException] = []

    def run() -> None:
        try:
            loop.run_until_complete(work(end))
        except BaseException as error:  # noqa: BLE001 - it is raised by who waits for the thread
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join(60)
    if failed:
        raise failed[0]


def workers(site: Site) -> Iterator[Row]:
    """Measure eight workers of a job with 64, the others idle since the limit is reached, against eight alone."""
    with scene(site, CREW, scheduleLimit=CREW) as small, scene(site, CREW, scheduleLimit=CREW) as grown:

        async def stand_by(end: asyncio.Event) -> None:
            await asyncio.gather(*(idle_worker(grown, n, end) for n in range(ROWS - CREW)))

        with beneath(stand_by):
            await_("the others are there", lambda: len(grown.pool.workers(grown.job_id)) == ROWS)
            for resources, what in ((UNITS, "one unit a resource"), (UNITS // 10, "ten")):
                found: list[list[Row]] = [[], []]
                for turn in range(1, 4):
                    site.say(f"{what}, round {turn} of 3")
                    for there, rounds in zip((small, grown), found, strict=True):
                        load(there, UNITS, resources)
                        rounds.append(there.work(UNITS))
                yield beside(f"{ROWS} workers, {CREW} of them at work, {what}", *found)


async def idle_worker(there: Scene, number: int, end: asyncio.Event) -> None:
    """Do what a worker does that finds nothing it may do: ask, and sleep until it is called or is to ask again."""
    async with WorkerPool.open(there.servers.postgres.url) as pool:
        worker = await pool.register(there.job_id, f"idle-{number}")
        while not end.is_set():
            asked = await pool.poll(worker)
            if not asked.claimable:
                await pool.sleep(there.job_id, worker, asked.sleep_seconds, end)
            elif end.is_set() or not await pool.claim(worker, 0, 1):
                await asyncio.sleep(0.05)
        await pool.leave(worker)


def jobs(site: Site) -> Iterator[Row]:
    """Count queries a second of jobs with one idle worker each: of a thousand, and of one.

    What these workers ask goes over one session, at the times at which they would ask over theirs.
    """
    for count in (1, site.size(JOBS)):
        with scene(site, workers=0) as there:
            there.pool.conn.execute(MAKE_JOBS, {"jobs": count})
            asked: list[float] = []

            async def ask(end: asyncio.Event, there: Scene = there, asked: list[float] = asked) -> None:
                await rest(there, end, asked)

            site.say(f"{count:,} jobs at rest")
            with beneath(ask):
                time.sleep(site.seconds(60))  # in which each has asked once: how often depends on how many are there
                before, began, spent = len(asked), time.perf_counter(), tree_seconds(there.servers.postgres.pid)
                time.sleep(site.seconds(60))
                seconds = time.perf_counter() - began
                calls, spent = asked[before:], tree_seconds(there.servers.postgres.pid) - spent
            yield {
                "what": f"{count:,} jobs at rest",
                "queries_a_second": round(len(calls) / seconds, 2),
                "ms_each": round(statistics.mean(calls) * 1000, 2) if calls else None,
                "postgres_cores": round(spent / seconds, 4),
            }


async def rest(there: Scene, end: asyncio.Event, asked: list[float]) -> None:
    """Be the idle workers of all jobs but the scene's own: ask when each is to, and note how long it took."""
    rows = there.pool.conn.execute("select id from striped.job where id <> %s", [there.job_id]).fetchall()
    async with WorkerPool.open(there.servers.postgres.url) as pool:
        ids = {job_id: await pool.register(job_id, "rests") for (job_id,) in rows}
        now = time.monotonic()
        due = [(now + random.random() * 3, job_id) for job_id in ids]  # noqa: S311 - not all at once
        clean_at = {job_id: now + random.random() * CLEAN_SECONDS for job_id in ids}  # noqa: S311
        heapq.heapify(due)
        while not end.is_set():
            at, job_id = heapq.heappop(due)
            await asyncio.sleep(min(1.0, max(0.0, at - time.monotonic())))
            if time.monotonic() < at:
                heapq.heappush(due, (at, job_id))
                continue
            began = time.monotonic()
            poll = await pool.poll(ids[job_id])
            asked.append(time.monotonic() - began)
            if time.monotonic() >= clean_at[job_id]:
                began = time.monotonic()
                await pool.clean(job_id)
                asked.append(time.monotonic() - began)
                clean_at[job_id] = time.monotonic() + CLEAN_SECONDS
            heapq.heappush(due, (time.monotonic() + poll.sleep_seconds, job_id))
