"""Pure: from a StripedJob to what the processes of a worker or a delegator need to know of it."""

import base64
import pickle
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from stripedjob.locks import LockSettings
from stripedjob.pool.types import Database
from stripedjob.runtime.executor.wire import Config
from stripedjob.runtime.handlers.settings import HandlerSettings
from stripedjob.runtime.worker.decide import RetryPolicy
from stripedjob.runtime.worker.settings import WorkerSettings
from stripedjob.settings import lock_settings

if TYPE_CHECKING:
    from stripedjob.spec.model import StripedJob


def retry_policy(job: "StripedJob") -> RetryPolicy:
    """Return what follows when a unit was tried and not done."""
    retry = job.spec.retry
    return RetryPolicy(
        attempts_max=retry.max_attempts,
        backoff_seconds=retry.backoff_seconds,
        backoff_seconds_max=retry.backoff_seconds_max,
        crash_threshold=retry.crash_threshold,
        on_failure=job.on_failure,
        per_resource=job.spec.handler.per == "Resource",
    )


def worker_settings(job: "StripedJob", job_id: int, name: str, backend_name: str) -> WorkerSettings:
    """Return what a worker's loop needs; `name` is how it registers, `backend_name` how its handlers' sessions do."""
    return WorkerSettings(
        job_id=job_id,
        name=name,
        lease_seconds=job.spec.lock.lease_seconds,
        resources_max=job.spec.batch.resources,
        units_max=job.spec.batch.units_per_resource,
        slots=job.spec.concurrency,
        policy=retry_policy(job),
        drain_seconds=job.spec.drain_seconds,
        gathers=not job.strategy.delegated,
        backend_name=backend_name,
    )


def executor_config(job: "StripedJob", job_id: int, postgres_url: str, path: str, backend_name: str) -> Config:
    """Return what the executor runs; `path` is where it looks for Python modules first."""
    handler = job.spec.handler
    database = None
    if handler.transaction:
        idle_seconds_max = handler.timeout_seconds + job.spec.lock.lease_seconds
        database = Database(postgres_url, job.spec.pool.sql_schema, job_id, backend_name, idle_seconds_max)
    settings = HandlerSettings(
        kind=handler.kind,
        target=handler.target,
        timeout_seconds=handler.timeout_seconds,
        per_resource=handler.per == "Resource",
        database=database,
        around=handler.around or "",
    )
    return Config(
        settings, job.spec.concurrency, job.on_failure == "Block", path, f"{job.metadata.namespace}/{job.job_type}"
    )


@dataclass(frozen=True, slots=True)
class Plan:
    """What a process of a job needs to know of its StripedJob, without the model that checks one: plain values.

    Who starts many processes makes it once. `worker` and `config` are of no process yet; `lock`: None for a delegator.
    """

    namespace: str
    job_type: str
    schema: str
    worker: WorkerSettings
    config: Config
    lock: LockSettings | None

    @classmethod
    def of(cls, job: "StripedJob", postgres_url: str, lock_url: str, path: str) -> Self:
        """Make it of a checked StripedJob; `path` is where Python modules are looked for first."""
        return cls(
            namespace=job.metadata.namespace,
            job_type=job.job_type,
            schema=job.spec.pool.sql_schema,
            worker=worker_settings(job, 0, "", ""),
            config=executor_config(job, 0, postgres_url, path, ""),
            lock=lock_settings(job, lock_url) if lock_url else None,
        )

    @property
    def job(self) -> str:
        """What logs, metrics and spans call it: NAMESPACE/TYPE."""
        return f"{self.namespace}/{self.job_type}"

    @classmethod
    def unpacked(cls, text: str) -> Self:
        """Read what `packed` gave to the process that was started with it."""
        found: Self = pickle.loads(base64.b64decode(text))  # noqa: S301 - from who started this process
        return found

    def packed(self) -> str:
        """Return it as text for a variable of the environment of one's own child."""
        return base64.b64encode(pickle.dumps(self)).decode()

    def for_process(self, job_id: int, name: str, backend_name: str) -> tuple[WorkerSettings, Config]:
        """Return the settings of one worker and of its executor."""
        worker = replace(self.worker, job_id=job_id, name=name, backend_name=backend_name)
        database = self.config.handler.database
        if database is None:
            return worker, self.config
        database = replace(database, job_id=job_id, session_name=backend_name)
        return worker, replace(self.config, handler=replace(self.config.handler, database=database))
