"""What is remembered of StripedJobs between two reconciles; all of it can be lost."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field

from stripedjob.scaling import Scale
from stripedjob.spec.load import SpecError, check
from stripedjob.spec.model import API_VERSION, KIND, StripedJob
from stripedjob_operator.observed import Key, Problem, Raw

READ_METADATA = ("namespace", "name", "generation")
PoolName = tuple[str, ...]  # what tells a pool apart: namespace, job type, and where it is


@dataclass(slots=True)
class JobState:
    """One StripedJob: what was last decided and made for it. What it says is read again each time: see `read`."""

    key: Key
    uid: str
    created: str
    generation: int = -1
    pool: PoolName | None = None
    scale: Scale | None = None
    applied: dict[str, tuple[str, int]] = field(default_factory=dict)  # Deployment → digest and generation
    children: dict[str, str] | None = None  # kind → digest of the other objects
    numbers_at: float = 0.0  # when its status was last written

    @property
    def age(self) -> tuple[str, str]:
        """Return what is less for the older of two."""
        return self.created, self.uid


def read(raw: Raw) -> tuple[StripedJob | None, Problem | None]:
    """Read a StripedJob, or say why that cannot be done. It takes some microseconds; to keep it would take 8 KB."""
    metadata = {name: raw["metadata"][name] for name in READ_METADATA}
    data = {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": json.loads(raw["spec"])}
    try:
        return check(data), None
    except SpecError as error:
        return None, Problem("InvalidSpec", str(error))


@dataclass(slots=True)
class JobStates:
    """All StripedJobs. `wake` is told which are to be reconciled since another has changed."""

    wake: Callable[[Key], None]
    _known: dict[Key, JobState] = field(default_factory=dict)
    _conflicts: dict[PoolName, set[Key]] = field(default_factory=dict)

    def of(self, key: Key, raw: Raw, job: StripedJob | None) -> JobState:
        """Return the state of a StripedJob. `job`: what it says now, where that can be read."""
        metadata = raw["metadata"]
        job_state = self._known.get(key)
        if job_state is None or job_state.uid != metadata["uid"]:
            self.forget(key)
            job_state = self._known[key] = JobState(key, metadata["uid"], metadata["creationTimestamp"])
        if job_state.generation != metadata["generation"]:
            job_state.generation = metadata["generation"]
            self._join(job_state, _pool_of(job) if job else None)
        return job_state

    def forget(self, key: Key) -> None:
        """Forget a StripedJob that is gone."""
        job_state = self._known.pop(key, None)
        if job_state is not None:
            self._join(job_state, None)

    def conflict(self, job_state: JobState) -> Problem | None:
        """Return whether an older StripedJob has the same pool: the younger of two does not run."""
        if job_state.pool is None:
            return None
        for other in (self._known[key] for key in self._conflicts[job_state.pool]):
            if other.age < job_state.age:
                message = f'StripedJob "{other.key[1]}" is older and has the same pool (jobType {job_state.pool[1]})'
                return Problem("PoolConflict", f"{message}; give this one another spec.jobType")
        return None

    def _join(self, job_state: JobState, pool: PoolName | None) -> None:
        """Have it among those of its pool; those of the pool that it leaves or joins are reconciled."""
        if pool == job_state.pool:
            return
        if job_state.pool is not None:
            rivals = self._conflicts[job_state.pool]
            rivals.discard(job_state.key)
            self._wake(rivals)
            if not rivals:
                del self._conflicts[job_state.pool]
        job_state.pool = pool
        if pool is not None:
            rivals = self._conflicts.setdefault(pool, set())
            self._wake(rivals)
            rivals.add(job_state.key)

    def _wake(self, keys: set[Key]) -> None:
        for key in keys:
            self.wake(key)


def _pool_of(job: StripedJob) -> PoolName:
    ref = job.spec.pool.secret_ref
    where = (ref.name, ref.key) if ref else ()
    return job.metadata.namespace, job.job_type, job.spec.pool.sql_schema, *where
