"""Pure: from a StripedJob to what each part needs to know of it. Used by the worker, the CLI and the operator."""

import base64
import json
import pickle
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from stripedjob.locks import LockSettings
from stripedjob.pool.types import JobSettings
from stripedjob.runtime.decide import RetryPolicy
from stripedjob.runtime.handlers import Database, HandlerSettings
from stripedjob.runtime.loop import WorkerSettings
from stripedjob.runtime.messages import Config

if TYPE_CHECKING:
    from stripedjob.spec.model import StripedJob

WORKER_FIELDS = {
    *("job_type", "strategy", "pool", "lock", "handler", "concurrency", "batch", "retry", "throttle", "drain_seconds")
}


def job_settings(job: "StripedJob") -> JobSettings:
    """Give what the database judges the job by."""
    throttle = job.spec.throttle
    return JobSettings(
        namespace=job.metadata.namespace,
        job_type=job.job_type,
        generation=job.metadata.generation,
        schedule_limit=job.effective_limit,
        importance=job.spec.importance,
        lease_seconds=job.spec.lock.lease_seconds,
        crash_threshold=job.spec.retry.crash_threshold,
        on_failure=job.on_failure,
        completed_seconds=job.spec.retention.completed_seconds,
        dead_seconds=job.spec.retention.dead_seconds,
        delegated=job.strategy.delegated,
        outstanding_max=throttle.max_outstanding if throttle else None,
        starts_max=throttle.rate if throttle else None,
        period_seconds=throttle.period_seconds if throttle else None,
        area_label=throttle.area_label if throttle else None,
        deduplicate_content=job.spec.content_based_deduplication,
    )


def worker_spec(job: "StripedJob") -> str:
    """Give the resource as text, as far as a worker looks at it: what leaves this alone needs no new worker."""
    spec = job.spec.model_dump(by_alias=True, exclude_defaults=True, include=WORKER_FIELDS)
    metadata = {"name": job.metadata.name, "namespace": job.metadata.namespace}
    whole = {"apiVersion": job.api_version, "kind": job.kind, "metadata": metadata, "spec": spec}
    return json.dumps(whole, sort_keys=True, ensure_ascii=False)


def lock_settings(job: "StripedJob", url: str) -> LockSettings:
    """Say which locks, and where."""
    return LockSettings(
        backend=job.spec.lock.backend,
        url=url,
        namespace=job.metadata.namespace,
        job_type=job.job_type,
        prefix=job.spec.lock.prefix,
        schema=job.spec.pool.sql_schema,
    )


def retry_policy(job: "StripedJob") -> RetryPolicy:
    """Give what follows when a unit was tried and not done."""
    retry = job.spec.retry
    return RetryPolicy(
        attempts_max=retry.max_attempts,
        backoff_seconds=retry.backoff_seconds,
        backoff_seconds_max=retry.backoff_seconds_max,
        crash_threshold=retry.crash_threshold,
        on_failure=job.on_failure,
    )


def worker_settings(job: "StripedJob", job_id: int, name: str, backend_name: str) -> WorkerSettings:
    """Give what a worker's loop needs; `name` is how it registers, `backend_name` how its handlers' sessions do."""
    return WorkerSettings(
        job_id=job_id,
        name=name,
        lease_seconds=job.spec.lock.lease_seconds,
        resources_max=job.spec.batch.resources,
        units_max=job.spec.batch.units_per_resource,
        slots=job.spec.concurrency,
        policy=retry_policy(job),
        drain_seconds=job.spec.drain_seconds,
        backend_name=backend_name,
    )


def executor_config(job: "StripedJob", job_id: int, postgres_url: str, path: str, backend_name: str) -> Config:
    """Give what the executor runs; `path` is where it looks for Python modules first."""
    handler = job.spec.handler
    database = None
    if handler.transaction:
        database = Database(postgres_url, job.spec.pool.sql_schema, job_id, backend_name)
    settings = HandlerSettings(
        kind=handler.kind,
        target=handler.target,
        timeout_seconds=handler.timeout_seconds,
        per_resource=handler.per == "Resource",
        database=database,
    )
    return Config(settings, job.spec.concurrency, job.on_failure == "Block", path)


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

    @classmethod
    def unpacked(cls, text: str) -> Self:
        """Read what `packed` gave to the process that was started with it."""
        found: Self = pickle.loads(base64.b64decode(text))  # noqa: S301 - from who started this process
        return found

    def packed(self) -> str:
        """Give it as text for a variable of the environment of one's own child."""
        return base64.b64encode(pickle.dumps(self)).decode()

    def for_process(self, job_id: int, name: str, backend_name: str) -> tuple[WorkerSettings, Config]:
        """Give the settings of one worker and of its executor."""
        worker = replace(self.worker, job_id=job_id, name=name, backend_name=backend_name)
        database = self.config.handler.database
        if database is None:
            return worker, self.config
        database = replace(database, job_id=job_id, session_name=backend_name)
        return worker, replace(self.config, handler=replace(self.config.handler, database=database))
