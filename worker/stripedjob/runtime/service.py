"""A whole worker process: what a pod runs and what the local supervisor starts.

Called by `stripedjob worker`. Opens everything, works until SIGTERM or SIGINT, drains, and closes everything.
"""

import asyncio
import contextlib
import os
import signal
import socket
import time
from dataclasses import dataclass

from stripedjob.locks import open_lock
from stripedjob.pool.errors import PoolUnreachableError
from stripedjob.pool.worker import WorkerPool
from stripedjob.runtime.health import serving
from stripedjob.runtime.host import Host
from stripedjob.runtime.log import logger
from stripedjob.runtime.loop import Worker
from stripedjob.runtime.observe import Observer
from stripedjob.settings import check_strategy, executor_config, lock_settings, worker_settings
from stripedjob.spec.model import StripedJob

START_SECONDS_MAX = 60.0  # how long Postgres may take to answer at the start
START_RETRY_SECONDS = 1.0
PARENT_SECONDS = 1.0  # between two looks whether the supervisor is still there


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """Which job, where, and how it shows itself. `health_port` None: no endpoints; `path`: first on sys.path."""

    job: StripedJob
    postgres_url: str
    lock_url: str
    path: str
    name: str = ""
    health_port: int | None = None
    parent_pid: int | None = None  # end when this process has gone


async def serve(settings: ServiceSettings) -> None:
    """Work until told to end. Raises HandlerError, PoolError, LockConfigError; OSError where the port is taken."""
    job = settings.job
    check_strategy(job)
    key = f"{job.metadata.namespace}/{job.job_type}"
    observer = Observer(key)
    name = settings.name or f"{socket.gethostname()}:{os.getpid()}"
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with contextlib.ExitStack() as stack:
        if settings.health_port is not None:
            stack.enter_context(serving(observer, settings.health_port))
        if settings.parent_pid is not None:
            watch = asyncio.create_task(_watch_parent(settings.parent_pid, stop))
            stack.callback(watch.cancel)
        job_id = await _find_job(settings, observer)
        lock = open_lock(lock_settings(job, settings.lock_url))
        host = Host(executor_config(job, job_id, settings.postgres_url, settings.path))
        async with lock, host:
            worker = Worker(
                worker_settings(job, job_id, name),
                lambda: WorkerPool.open(settings.postgres_url, job.spec.pool.sql_schema),
                lock,
                host,
                observer,
            )
            await _run(worker, stop, key)


async def _run(worker: Worker, stop: asyncio.Event, key: str) -> None:
    run = asyncio.create_task(worker.run())
    told = asyncio.create_task(stop.wait())
    await asyncio.wait({run, told}, return_when=asyncio.FIRST_COMPLETED)
    if told.done():
        logger.info("draining", extra={"job": key})
        worker.drain()
    told.cancel()
    await run
    logger.info("drained", extra={"job": key})


async def _watch_parent(pid: int, stop: asyncio.Event) -> None:
    while os.getppid() == pid:  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(PARENT_SECONDS)
    stop.set()


async def _find_job(settings: ServiceSettings, observer: Observer) -> int:
    """Ask the pool for the job's id, waiting a while for a Postgres that is still to come up."""
    end = time.monotonic() + START_SECONDS_MAX
    while True:
        observer.turned()
        try:
            async with WorkerPool.open(settings.postgres_url, settings.job.spec.pool.sql_schema) as pool:
                return await pool.job_id(settings.job.metadata.namespace, settings.job.job_type)
        except PoolUnreachableError as error:
            observer.disconnected(error)
            if time.monotonic() >= end:
                raise
            await asyncio.sleep(START_RETRY_SECONDS)
