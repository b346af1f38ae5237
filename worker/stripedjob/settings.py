"""Pure: from a StripedJob to what each part needs to know of it. Used by the worker, the CLI and the operator."""

import json
from typing import TYPE_CHECKING

from stripedjob.locks import LockSettings
from stripedjob.pool.types import JobSettings

if TYPE_CHECKING:
    from stripedjob.spec.model import StripedJob

WORKER_FIELDS = {
    *("job_type", "strategy", "pool", "lock", "handler", "concurrency", "batch", "retry", "throttle", "drain_seconds")
}


def job_settings(job: "StripedJob") -> JobSettings:
    """Return what the database judges the job by."""
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
        breaker_failures=job.spec.retry.circuit_breaker.failures,
        backoff_seconds=job.spec.retry.backoff_seconds,
        backoff_seconds_max=job.spec.retry.backoff_seconds_max,
        history_seconds=job.spec.retention.history_seconds,
    )


def worker_spec(job: "StripedJob") -> str:
    """Return the resource as text, as far as a worker looks at it: what leaves this alone needs no new worker."""
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
