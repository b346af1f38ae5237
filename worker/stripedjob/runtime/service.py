"""A whole process of a job, a worker or the delegator: what a pod runs and what the local supervisor starts.

Called by `stripedjob worker` and `stripedjob delegator`. Opens everything, runs until SIGTERM or SIGINT, drains, and
closes everything.
"""

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from stripedjob.locks import LockConfigError, open_lock
from stripedjob.observe.log import logger
from stripedjob.pool.client.delegator import DelegatorPool
from stripedjob.pool.client.worker import WorkerPool
from stripedjob.pool.errors import PoolUnreachableError
from stripedjob.runtime import pidfile
from stripedjob.runtime.delegator import Delegator
from stripedjob.runtime.executor.supervisor import ExecutorSupervisor
from stripedjob.runtime.observe import Observer
from stripedjob.runtime.settings import Plan
from stripedjob.runtime.traces import Traces, open_traces
from stripedjob.runtime.worker.loop import Worker

START_SECONDS_MAX = 60.0  # how long Postgres may take to answer at the start
START_RETRY_SECONDS = 1.0
PARENT_SECONDS = 1.0  # between two looks whether the supervisor is still there


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """Which job, where, and how it shows itself. `health_port` None: no endpoints.

    `parent_pid`: end when this process has gone. `pid_file`: held meanwhile, see pidfile.py.
    """

    plan: Plan
    postgres_url: str
    name: str = ""
    health_port: int | None = None
    parent_pid: int | None = None
    pid_file: Path | None = None


class Loop(Protocol):
    """What a process of a job runs."""

    async def run(self) -> None:
        """Run until drained."""

    def drain(self) -> None:
        """Begin to end."""


@dataclass(frozen=True, slots=True)
class _Process:
    """What every process of a job has at hand once the job was found in the pool."""

    job_id: int
    name: str
    observer: Observer
    stop: asyncio.Event

    async def run(self, loop: Loop) -> None:
        """Run the loop to its end; drain it when told to end."""
        run = asyncio.create_task(loop.run())
        told = asyncio.create_task(self.stop.wait())
        await asyncio.wait({run, told}, return_when=asyncio.FIRST_COMPLETED)
        if told.done():
            logger.info("draining", extra={"job": self.observer.job})
            loop.drain()
        told.cancel()
        await run
        logger.info("drained", extra={"job": self.observer.job})


async def serve(settings: ServiceSettings) -> None:
    """Be one worker. Raises HandlerError, PoolError, LockConfigError; OSError where port or file is taken."""
    plan = settings.plan
    async with _process(settings, open_traces(plan.job)) as process:
        if plan.lock is None:
            raise LockConfigError("no lock backend is named")
        lock = open_lock(plan.lock)
        backend_name = f"stripedjob {secrets.token_hex(8)}"  # of this process alone
        worker_settings, config = plan.for_process(process.job_id, process.name, backend_name)
        executor = ExecutorSupervisor(config)
        async with lock, executor:
            worker = Worker(
                worker_settings,
                lambda: WorkerPool.open(settings.postgres_url, plan.schema),
                lock,
                executor,
                process.observer,
            )
            await process.run(worker)


async def serve_delegator(settings: ServiceSettings) -> None:
    """Be the delegator, or wait to be it. Raises PoolError; OSError where port or file is taken."""
    schema = settings.plan.schema
    async with _process(settings) as process:
        delegator = Delegator(
            process.job_id, process.name, lambda: DelegatorPool.open(settings.postgres_url, schema), process.observer
        )
        await process.run(delegator)


@contextlib.asynccontextmanager
async def _process(settings: ServiceSettings, traces: Traces | None = None) -> AsyncIterator[_Process]:
    """Set up signals and endpoints, and find the job."""
    observer = Observer(settings.plan.job, traces=traces)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with contextlib.ExitStack() as stack:
        if settings.pid_file is not None:
            stack.enter_context(pidfile.holding(settings.pid_file))
        if settings.health_port is not None:
            stack.enter_context(_serving(observer, settings.health_port))
        if settings.parent_pid is not None:
            watch = asyncio.create_task(_watch_parent(settings.parent_pid, stop))
            stack.callback(watch.cancel)
        if traces:
            stack.callback(traces.close)
        job_id = await _find_job(settings, observer, stop)
        yield _Process(job_id, settings.name or f"{socket.gethostname()}:{os.getpid()}", observer, stop)


def _serving(observer: Observer, port: int) -> contextlib.AbstractContextManager[int]:
    """Serve what is known of this process. Who is never asked loads no prometheus_client, a tenth of imports."""
    from stripedjob.observe.health import serving  # noqa: PLC0415 - as above
    from stripedjob.runtime.metrics import registry_of  # noqa: PLC0415 - as above

    return serving(observer, registry_of(observer), port)


async def _watch_parent(pid: int, stop: asyncio.Event) -> None:
    while os.getppid() == pid:  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(PARENT_SECONDS)
    stop.set()


async def _find_job(settings: ServiceSettings, observer: Observer, stop: asyncio.Event) -> int:
    """Ask the pool for the job's id, waiting a while for a Postgres that is still to come up, unless told to end.

    Raises PoolSchemaError where the pool is not of this version yet.
    """
    end = time.monotonic() + START_SECONDS_MAX
    while True:
        observer.turned()
        try:
            async with WorkerPool.open(settings.postgres_url, settings.plan.schema) as pool:
                await pool.check_schema()
                return await pool.job_id(settings.plan.namespace, settings.plan.job_type)
        except PoolUnreachableError as error:
            observer.disconnected(error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(START_RETRY_SECONDS):
                    await stop.wait()
            if stop.is_set() or time.monotonic() >= end:
                raise
