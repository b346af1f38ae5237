"""What a worker needs to know of its job."""

from dataclasses import dataclass

from stripedjob.runtime.worker.decide import RetryPolicy


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """Plain values, made of a StripedJob by runtime/settings.py."""

    job_id: int
    name: str
    lease_seconds: float
    resources_max: int
    units_max: int
    slots: int
    policy: RetryPolicy
    drain_seconds: float = 60.0
    gathers: bool = True  # lets more come for a moment before it claims again (claiming.py)
    backend_name: str | None = None  # the application_name of its handlers' sessions
