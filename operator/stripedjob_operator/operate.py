"""The operator as a whole: its endpoints, its turn as leader, and the loops that run while it leads."""

import asyncio
import ctypes
import logging
import signal
import time
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry

from stripedjob.observe.health import serving
from stripedjob.observe.log import logger
from stripedjob_operator import handlers
from stripedjob_operator.apply import Applier
from stripedjob_operator.cleanup import Cleanup
from stripedjob_operator.cluster import ApiError, ApiUnreachableError, Cluster
from stripedjob_operator.databases import Databases
from stripedjob_operator.job_states import JobStates
from stripedjob_operator.leader import lead
from stripedjob_operator.lockpings import LockPings
from stripedjob_operator.metrics import JobMetrics, OperatorMetrics
from stripedjob_operator.observed import Key, Observed
from stripedjob_operator.pools import Pools
from stripedjob_operator.queue import WorkQueue
from stripedjob_operator.reconcile import Reconciler
from stripedjob_operator.reporter import Reporter
from stripedjob_operator.secrets import Secrets
from stripedjob_operator.settings import OperatorSettings

RECONCILES_AT_ONCE = 12  # each waits for the API server alone
TRIM_SECONDS = 10.0
BEAT_SECONDS = 1.0
BEAT_SECONDS_MAX = 30.0
RESYNC_SECONDS = 300.0  # every StripedJob is reconciled so often, event or not


@dataclass(slots=True)
class OperatorHealth:
    """What the probes ask: whether the loop turns and the watches tell what happens."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    observed: Observed | None = None
    beat: float = field(default_factory=time.monotonic)

    def is_live(self) -> bool:
        """Return whether the loop turns and the watch goes on: else the kubelet restarts this container."""
        stalled = self.observed is not None and self.observed.watch_problem() is not None
        return time.monotonic() - self.beat < BEAT_SECONDS_MAX and not stalled

    def problem(self) -> str | None:
        """Return nothing: an operator that waits for its turn is ready too."""
        return None

    async def beat_forever(self) -> None:
        """Beat."""
        while True:
            self.beat = time.monotonic()
            await asyncio.sleep(BEAT_SECONDS)


async def trim_forever() -> None:
    """Give state that was freed back to the system, which glibc does not do by itself: 10 to 20 MB after imports."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none
    while trim:
        trim(0)
        await asyncio.sleep(TRIM_SECONDS)


async def run(settings: OperatorSettings) -> bool:
    """Work until told to end; False: the Lease was lost."""
    health = OperatorHealth()
    told = asyncio.Event()
    _heed(told)
    with serving(health, health.registry, settings.port):
        async with Cluster.connect(health.registry) as cluster:
            beating = asyncio.create_task(health.beat_forever())
            trimming = asyncio.create_task(trim_forever())
            stopped = asyncio.create_task(told.wait())
            leading = asyncio.create_task(
                lead(
                    cluster,
                    settings.lease_name,
                    settings.lease_namespace,
                    settings.identity,
                    lambda: operate(cluster, settings, health, told),
                )
            )
            try:
                await asyncio.wait({leading, stopped}, return_when=asyncio.FIRST_COMPLETED)
                is_waiting = health.observed is None and not leading.done()
                return True if is_waiting else await leading
            finally:
                for task in (beating, trimming, stopped, leading):
                    task.cancel()


def _heed(told: asyncio.Event) -> None:
    """Have this process told to end by a signal, and not kopf, which waits 5 s for what runs beside it."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)


async def operate(cluster: Cluster, settings: OperatorSettings, health: OperatorHealth, told: asyncio.Event) -> None:
    """Reconcile everything, until told to end."""
    observed = health.observed = Observed()
    queue: WorkQueue[Key] = WorkQueue()
    tasks = [
        asyncio.create_task(told.wait()),
        asyncio.create_task(reconcile_all(cluster, settings, health.registry, observed, queue)),
        asyncio.create_task(handlers.watch(observed, queue.add, settings.namespaces, lambda: _heed(told))),
    ]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:  # the watches last, as they ask for it
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def reconcile_all(
    cluster: Cluster,
    settings: OperatorSettings,
    registry: CollectorRegistry,
    observed: Observed,
    queue: WorkQueue[Key],
) -> None:
    """Reconcile what the queue says, for as long as it is not cancelled."""
    for library in ("psycopg", "redis"):
        logging.getLogger(library).setLevel(logging.CRITICAL)  # they log what servers say, whatever listens there
    async with Databases(queue.add) as databases, LockPings(queue.add) as locks, asyncio.TaskGroup() as tasks:
        secrets = Secrets(cluster, queue.add)
        pools = Pools(secrets, databases, locks)
        reconciler = Reconciler(
            observed,
            JobStates(queue.add),
            pools,
            Applier(cluster, observed, secrets, settings),
            Reporter(cluster, observed, secrets),
            Cleanup(cluster, observed, pools),
        )
        metrics = OperatorMetrics(registry, queue, observed)
        registry.register(JobMetrics(observed, databases))
        for _ in range(RECONCILES_AT_ONCE):
            tasks.create_task(_reconcile_forever(queue, reconciler, metrics))
        tasks.create_task(secrets.refresh_forever())
        tasks.create_task(_resync_forever(queue, observed))


async def _reconcile_forever(queue: WorkQueue[Key], reconciler: Reconciler, metrics: OperatorMetrics) -> None:
    while True:
        key = await queue.get()
        began = time.monotonic()
        try:
            again = await reconciler.reconcile(key)
        except (ApiError, ApiUnreachableError) as error:
            wait = queue.failed(key)
            metrics.reconciles.labels("retry").inc()
            logger.warning("reconcile again", extra={"job": "/".join(key), "error": str(error), "seconds": wait})
        except Exception:  # one StripedJob must not stop the others
            queue.failed(key)
            metrics.reconciles.labels("error").inc()
            logger.exception("a reconcile failed", extra={"job": "/".join(key)})
        else:
            queue.done(key, again=again)
            metrics.reconciles.labels("done").inc()
        metrics.seconds.observe(time.monotonic() - began)


async def _resync_forever(queue: WorkQueue[Key], observed: Observed) -> None:
    while True:
        await asyncio.sleep(RESYNC_SECONDS)
        for key in list(observed.jobs):
            queue.add(key)
