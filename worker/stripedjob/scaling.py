"""Pure: what can be worked on → how many workers. Asked at every tick by the operator and by `stripedjob run`.

The number follows resources, not units: 5,000 units of 3 resources keep 3 workers busy at most; and of resources, those
that a throttle lets out at a time. It grows at once, and shrinks when fewer were enough for `scaleDownDelaySeconds`.
"""

import math
from dataclasses import dataclass

from stripedjob.spec.model import StripedJob


@dataclass(frozen=True, slots=True)
class Load:
    """What the pool has to do: resources ready and leased, workers at work, and whether a person has paused it all."""

    ready_resources: int
    leased_resources: int
    working: int
    paused: bool = False


@dataclass(frozen=True, slots=True)
class Scale:
    """How many workers there are to be. `lower_since`: since when fewer would do, on the caller's monotonic clock."""

    workers: int = 0
    lower_since: float | None = None


def scale(job: StripedJob, load: Load | None, now: Scale, clock: float) -> Scale:
    """Say how many workers there are to be, after the number `now`; `load` is None where the database is away."""
    limit, scaling = job.effective_limit, job.spec.scaling
    if load is not None and load.paused:
        return Scale(min(load.working, limit))  # what is at work ends, and nothing else begins
    low = min(job.spec.min_workers, limit)
    match scaling.mode:
        case "Fixed":
            return Scale(limit)
        case "External":
            asked = job.spec.replicas if job.spec.replicas is not None else low
            return Scale(min(max(asked, low), limit))
    if load is None:
        fallback = now.workers if scaling.fallback_workers is None else scaling.fallback_workers
        return Scale(min(max(fallback, low), limit))
    return _settled(_needed(job, load, low, limit), min(now.workers, limit), now.lower_since, job, clock)


def _needed(job: StripedJob, load: Load, low: int, limit: int) -> int:
    each = job.spec.scaling.resources_per_worker or job.spec.concurrency
    resources, throttle = load.ready_resources + load.leased_resources, job.spec.throttle
    if throttle is not None and throttle.area_label is None:
        resources = min(resources, throttle.max_outstanding)
    needed = math.ceil(resources / each)
    return min(max(needed, load.working, low), limit)


def _settled(needed: int, workers: int, lower_since: float | None, job: StripedJob, clock: float) -> Scale:
    if needed >= workers:
        return Scale(needed)
    since = clock if lower_since is None else lower_since
    if clock - since >= job.spec.scaling.scale_down_delay_seconds:
        return Scale(needed)
    return Scale(workers, since)
