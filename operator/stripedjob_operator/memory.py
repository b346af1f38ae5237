"""What is remembered of StripedJobs between two looks at them; all of it can be lost."""

import datetime as dt
import json
from collections.abc import Callable
from dataclasses import dataclass, field

from stripedjob.scaling import Scale
from stripedjob.spec.load import SpecError, check
from stripedjob.spec.model import StripedJob
from stripedjob_operator.observed import Key, Problem, Raw


@dataclass(slots=True)
class Memory:
    """One StripedJob: what it says, and what was last decided and made for it."""

    key: Key
    uid: str
    created: str
    generation: int = -1
    job: StripedJob | None = None
    invalid: Problem | None = None
    scale: Scale | None = None
    applied: dict[str, tuple[str, int]] = field(default_factory=dict)  # Deployment → digest and generation
    children: dict[str, str] | None = None  # kind → digest of the other objects
    fired: dt.datetime | None = None
    fire_again_at: float = 0.0
    schedule_problem: Problem | None = None
    scheduled_at: str | None = None
    numbers_at: float = 0.0  # when its status was last written

    @property
    def age(self) -> tuple[str, str]:
        """Give what is less for the older of two."""
        return self.created, self.uid


@dataclass(slots=True)
class Memories:
    """All StripedJobs. `wake` is told which are to be looked at since another has changed."""

    wake: Callable[[Key], None]
    _known: dict[Key, Memory] = field(default_factory=dict)
    _rivals: dict[tuple[str, str], set[Key]] = field(default_factory=dict)  # by namespace and job type

    def of(self, key: Key, raw: Raw) -> Memory:
        """Give the memory of a StripedJob, with what it says now."""
        metadata = raw["metadata"]
        memory = self._known.get(key)
        if memory is None or memory.uid != metadata["uid"]:
            self.forget(key)
            memory = self._known[key] = Memory(key, metadata["uid"], metadata["creationTimestamp"])
        if memory.generation != metadata["generation"]:
            memory.generation = metadata["generation"]
            self._read(memory, raw)
        return memory

    def forget(self, key: Key) -> None:
        """Forget a StripedJob that is gone."""
        memory = self._known.pop(key, None)
        if memory is not None:
            self._leave(memory)

    def rival(self, memory: Memory) -> Problem | None:
        """Say whether an older StripedJob has the same pool: the younger of two does not run."""
        if memory.job is None:
            return None
        for other in (self._known[key] for key in self._rivals[_pool_of(memory.job)] - {memory.key}):
            if other.job is not None and other.job.spec.pool == memory.job.spec.pool and other.age < memory.age:
                message = f'StripedJob "{other.key[1]}" is older and has the same pool (jobType {memory.job.job_type})'
                return Problem("PoolConflict", f"{message}; give this one another spec.jobType")
        return None

    def _read(self, memory: Memory, raw: Raw) -> None:
        self._leave(memory)
        memory.job, memory.invalid = None, None
        try:
            whole = {name: part for name, part in raw.items() if name != "status"}
            job = check(whole | {"spec": json.loads(raw["spec"])})
        except SpecError as error:
            memory.invalid = Problem("InvalidSpec", str(error))
            return
        memory.job = job
        rivals = self._rivals.setdefault(_pool_of(job), set())
        self._wake(rivals)
        rivals.add(memory.key)

    def _leave(self, memory: Memory) -> None:
        if memory.job is None:
            return
        rivals = self._rivals[_pool_of(memory.job)]
        rivals.discard(memory.key)
        self._wake(rivals)
        if not rivals:
            del self._rivals[_pool_of(memory.job)]

    def _wake(self, keys: set[Key]) -> None:
        for key in keys:
            self.wake(key)


def _pool_of(job: StripedJob) -> tuple[str, str]:
    return job.metadata.namespace, job.job_type
