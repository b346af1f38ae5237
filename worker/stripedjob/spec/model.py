"""The StripedJob resource as pydantic models: fields, defaults and bounds are written here, and in parts.py, alone.

Rules that cross fields stand in rules.py, once for Python and once for the API server.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from stripedjob.spec.forms import (
    FUNCTION_PATTERN,
    SCHEMA_BYTES_MAX,
    SCHEMA_PATTERN,
    SECRET_KEY_PATTERN,
    SECRET_NAME_PATTERN,
)
from stripedjob.spec.parts import Part, PodTemplate, Seconds
from stripedjob.spec.rules import broken_rules
from stripedjob.strategies import STRATEGIES, OnFailure, Strategy

GROUP = "striped.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "StripedJob"
PLURAL = "stripedjobs"


NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
NAME_LENGTH_MAX = 47  # so that the names of what is made of it, with a hash, fit in a label
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=63)]
Count = Annotated[int, Field(ge=1, le=10_000)]
Function = Annotated[str, StringConstraints(pattern=FUNCTION_PATTERN, max_length=253)]


class SecretRef(Part):
    """One key of a Secret in the same namespace."""

    name: Annotated[str, Field(pattern=SECRET_NAME_PATTERN, max_length=253)]
    """Name of the Secret."""
    key: Annotated[str, Field(pattern=SECRET_KEY_PATTERN, max_length=253)]
    """The key in it."""


class Pool(Part):
    """Where the units are."""

    secret_ref: SecretRef | None = None
    """The Postgres URL of the pool. Needed in a cluster; `stripedjob run` has options for it."""
    operator_secret_ref: SecretRef | None = None
    """The same database for the operator, with another role than the workers'; `secretRef` by default."""
    sql_schema: Annotated[str, Field(alias="schema", pattern=SCHEMA_PATTERN, max_length=SCHEMA_BYTES_MAX)] = "striped"
    """The schema in the database that holds the pool."""
    deletion_policy: Literal["Retain", "Delete"] = "Retain"
    """What becomes of the job's units when the StripedJob is deleted."""


class Lock(Part):
    """What admits a worker to a resource."""

    backend: Literal["Redis", "Postgres"] = "Redis"
    """Redis (or Valkey), or Postgres where there is none."""
    secret_ref: SecretRef | None = None
    """The URL of the lock backend. With backend Postgres, the pool's own by default."""
    prefix: Annotated[str, Field(min_length=1, max_length=63)] = "stripedjob"
    """What all keys of this installation begin with, in Redis."""
    lease_seconds: Annotated[int, Field(ge=2, le=3600)] = 30
    """How long a worker that says nothing keeps its resources."""


class Handler(Part):
    """The work itself: exactly one of python, exec and http."""

    python: Function | None = None
    """A function, as `package.module:function`."""
    exec: Annotated[list[Annotated[str, Field(max_length=4096)]], Field(min_length=1, max_length=64)] | None = None
    """A command with its arguments; it gets the unit as JSON on stdin."""
    http: Annotated[str, Field(min_length=1, max_length=2048)] | None = None
    """A URL; the unit is POSTed to it as JSON."""
    per: Literal["Unit", "Resource"] = "Unit"
    """Whether a Python function gets one unit, or the list of a resource's units."""
    transaction: bool = False
    """Whether a Python function gets a connection as well, in the transaction that completes its units."""
    around: Function | None = None
    """What gives a context manager for each call of a Python function; it gets the unit, or the resource's units."""
    timeout_seconds: Annotated[int, Field(ge=1, le=86_400)] = 300
    """How long one call may take; then it is stopped and tried again."""

    @property
    def kind(self) -> Literal["python", "exec", "http"]:
        """Which of the three it is."""
        return "python" if self.python else "exec" if self.exec else "http"

    @property
    def target(self) -> tuple[str, ...]:
        """What to call: the function, the URL, or the command with its arguments."""
        return tuple(self.exec) if self.exec else (self.python or self.http or "",)


class Batch(Part):
    """The most that a worker leases ahead; how much it does lease follows from the handler's speed."""

    resources: Annotated[int, Field(ge=1, le=1000)] = 500
    """Most resources in one claim."""
    units_per_resource: Annotated[int, Field(ge=1, le=1000)] = 1000
    """Most units of each; with `per: Resource`, of one call."""


class CircuitBreaker(Part):
    """When a job pauses by itself, since its last tries all failed alike."""

    failures: Annotated[int, Field(ge=0, le=100_000)] = 0
    """So many tries in a row, of all workers, that failed alike: then nothing is claimed for the backoff. 0: never."""


class Retry(Part):
    """What follows when a unit was tried and not done."""

    max_attempts: Annotated[int, Field(ge=1, le=1000)] = 5
    """Tries of a unit before it is dead."""
    backoff_seconds: Annotated[Seconds, Field(ge=0)] = 5
    """Wait after the first failed try; doubled after each further one."""
    backoff_seconds_max: Annotated[Seconds, Field(ge=0)] = 600
    """The longest such wait."""
    crash_threshold: Annotated[int, Field(ge=1, le=1000)] = 5
    """Deaths of a worker with a unit, before the unit is held."""
    on_failure: OnFailure | None = None
    """Whether the resource waits with the unit, goes on without it, or gives it up. Strategy FIFO: Block; else Skip."""
    circuit_breaker: CircuitBreaker = CircuitBreaker()
    """When a job pauses by itself, since its last tries all failed alike."""


class Throttle(Part):
    """The limits of strategy Throttled, in each area."""

    max_outstanding: Count = 10
    """Most resources assigned to workers or worked on at the same time."""
    rate: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    """Resources started in a period, in the long run; at once, no more than maxOutstanding."""
    period_seconds: Annotated[int, Field(ge=1, le=86_400)] = 60
    """The length of a period."""
    area_label: Annotated[str, Field(min_length=1, max_length=63)] | None = None
    """A key of the payload: each of its values is an area with limits of its own. Without it, the job is one area."""


class Retention(Part):
    """How long finished units are kept, and what happened to units."""

    completed_seconds: Annotated[Seconds, Field(ge=0)] = 0
    """Completed units; 0: removed at once."""
    dead_seconds: Annotated[Seconds, Field(ge=0)] = 604_800
    """Dead units."""
    history_seconds: Annotated[Seconds, Field(ge=0)] = 0
    """What happened to each unit, for `stripedjob history`; 0: nothing is written down."""


class Scaling(Part):
    """How many workers there are, between minWorkers and scheduleLimit."""

    mode: Literal["Backlog", "Fixed", "External"] = "Backlog"
    """By what can be worked on; always scheduleLimit; or as `replicas` says."""
    resources_per_worker: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Mode Backlog: one worker for so many resources that can be worked on; `concurrency` by default."""
    scale_down_delay_seconds: Annotated[int, Field(ge=0, le=86_400)] = 60
    """Mode Backlog: how long fewer workers must be enough before there are fewer."""
    fallback_workers: Annotated[int, Field(ge=0, le=10_000)] | None = None
    """Mode Backlog: workers while the database cannot be reached; without it, as many as before."""


class Enqueue(Part):
    """Where a schedule's units come from."""

    sql: Annotated[str, Field(min_length=1, max_length=16_384)]
    """A query for (resource, payload), run with the database role of pool.secretRef, which workers have, too."""


class Schedule(Part):
    """Units enqueued by the clock. Missed periods are caught up with once at most."""

    cron: Annotated[str, Field(min_length=1, max_length=100)]
    """Minute, hour, day, month, weekday."""
    time_zone: Annotated[str, Field(min_length=1, max_length=64)] = "UTC"
    """The time zone of `cron`."""
    enqueue: Enqueue | None = None
    """Without it, one unit whose resource is the job's own name."""


class Spec(Part):
    """What the user wants."""

    job_type: Name | None = None
    """Identifies the pool together with the namespace; metadata.name by default. Cannot be changed."""
    strategy: Literal["Mutex", "Delegator", "FIFO", "Throttled"] = "Mutex"
    """How resources reach workers."""
    schedule_limit: Annotated[int, Field(ge=0, le=10_000)] = 1
    """Most workers at work, held at the claim; 0: none may work."""
    min_workers: Annotated[int, Field(ge=0, le=10_000)] = 0
    """Workers that are there even when nothing is to be done."""
    replicas: Annotated[int, Field(ge=0, le=10_000)] | None = None
    """What `kubectl scale`, an HPA or KEDA sets; used where scaling.mode is External."""
    parallel: bool = True
    """False: never two workers at work, whatever the replicas do."""
    importance: Annotated[int, Field(ge=-100, le=100)] = 0
    """Of new units: each point counts as one minute of waiting."""
    suspend: bool = False
    """True: nothing is claimed any more; what runs is finished."""
    content_based_deduplication: bool = False
    """Whether a unit without a deduplication id gets one made of its resource and payload, good for 5 minutes."""
    schedule: Schedule | None = None
    """Units enqueued by the clock."""
    pool: Pool = Pool()
    """Where the units are."""
    lock: Lock = Lock()
    """What admits a worker to a resource."""
    handler: Handler
    """The work itself."""
    concurrency: Annotated[int, Field(ge=1, le=1000)] = 1
    """Resources that one worker works on at the same time."""
    batch: Batch = Batch()
    """The most that a worker leases ahead."""
    retry: Retry = Retry()
    """What follows when a unit was tried and not done."""
    throttle: Throttle | None = None
    """The limits of strategy Throttled."""
    retention: Retention = Retention()
    """How long finished units are kept."""
    scaling: Scaling = Scaling()
    """How many workers there are."""
    drain_seconds: Annotated[int, Field(ge=0, le=86_400)] = 60
    """How long a worker that is to end may finish what it has begun."""
    network_policy: bool = False
    """Whether the workers get a NetworkPolicy that lets nothing in but probes and metrics."""
    template: PodTemplate | None = None
    """A PodTemplateSpec to merge into the workers' own: image, env, resources, node selection, sidecars."""


class Metadata(BaseModel):
    """What this project uses of Kubernetes' metadata; the rest is the API server's business."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=NAME_LENGTH_MAX)]
    namespace: Name = "default"
    generation: int = 0
    uid: str = ""


class StripedJob(Part):
    """A job type, its limit, its lock backend and its handler."""

    api_version: Literal["striped.dev/v1alpha1"]
    kind: Literal["StripedJob"]
    metadata: Metadata
    spec: Spec
    status: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _rules(self) -> "StripedJob":
        broken = broken_rules(self.model_dump(by_alias=True)["spec"])
        if broken:
            raise ValueError("\n".join(f"{rule.field}: {rule.message}" for rule in broken))
        return self

    @property
    def job_type(self) -> str:
        """What the pool knows it by, together with the namespace."""
        return self.spec.job_type or self.metadata.name

    @property
    def effective_limit(self) -> int:
        """Most workers at work, with `suspend` and `parallel` taken in."""
        if self.spec.suspend:
            return 0
        return self.spec.schedule_limit if self.spec.parallel else min(1, self.spec.schedule_limit)

    @property
    def strategy(self) -> Strategy:
        """What the strategy is made of."""
        return STRATEGIES[self.spec.strategy]

    @property
    def on_failure(self) -> OnFailure:
        """`retry.onFailure`, or what the strategy implies."""
        return self.spec.retry.on_failure or self.strategy.on_failure
