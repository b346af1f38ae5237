"""One look at one StripedJob: read → find its pool → decide → apply → settle → fire → report. Any event leads here."""

import time
from dataclasses import dataclass

from stripedjob.scaling import Load, Scale, scale
from stripedjob.spec.model import StripedJob
from stripedjob_operator.apply import Applier
from stripedjob_operator.backlog import Backlog
from stripedjob_operator.cleanup import Cleanup
from stripedjob_operator.memory import Memories, Memory, read
from stripedjob_operator.observed import Key, Observed
from stripedjob_operator.pools import Pools, fire, settle
from stripedjob_operator.reporter import Reporter
from stripedjob_operator.status import View

REFUSED_RETRY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Reconciler:
    """Holds what a look needs."""

    observed: Observed
    memories: Memories
    pools: Pools
    applier: Applier
    reporter: Reporter
    cleanup: Cleanup

    async def reconcile(self, key: Key) -> float | None:
        """Look at one StripedJob; returns after how many seconds to look again, where no event will say so.

        Raises ApiError and ApiUnreachableError: look again later.
        """
        raw = self.observed.jobs.get(key)
        if raw is None:
            self._forget(key)
            return None
        job, problem = read(raw)
        memory = self.memories.of(key, raw, job)
        if "deletionTimestamp" in raw["metadata"]:
            return await self.cleanup.clean_up(raw, job)
        problem = problem or self.memories.rival(memory)
        if job is None:
            return await self.reporter.report(raw, memory, View(None, memory.generation, invalid=problem))
        await self.cleanup.keep_finalizer(raw, job)
        database, pool_problem = await self.pools.find(key, job)
        lock_problem = await self.pools.check_lock(key, job)
        backlog = database.jobs.get(key) if database else None
        if memory.scale is None:
            await self.applier.look(memory, job)
        again = self._decide(memory, job, backlog, blocked=problem is not None)
        apply_problem = await self.applier.apply(memory, job, database)
        if apply_problem:
            again = _sooner(again, REFUSED_RETRY_SECONDS)
        if database and not problem:
            pool_problem = await settle(key, job, database) or database.problem
            again = _sooner(again, await fire(memory, job, database))
            is_new, backlog = backlog is None, database.jobs.get(key)
            if is_new and backlog:  # now that its numbers are known
                again = 0.0
        view = self.reporter.view(
            memory, job, backlog, invalid=problem, pool=pool_problem, lock=lock_problem, apply=apply_problem
        )
        return _sooner(again, await self.reporter.report(raw, memory, view))

    def _decide(self, memory: Memory, job: StripedJob, backlog: Backlog | None, *, blocked: bool) -> float | None:
        """Decide on the number of workers; returns when to decide again."""
        is_first = memory.scale is None
        if memory.scale is None:  # a new operator: as many as there are
            there = self.observed.deployments.get(memory.key, {}).get("spec", {}).get("replicas", 0)
            memory.scale = Scale(there)
        if blocked:
            memory.scale = Scale(0)
            return None
        if is_first and memory.scale.workers:
            return 0.0  # not fewer before its pool was asked once which of them are idle
        if backlog is None and memory.scale.workers == 0:
            return None  # Invariant: no worker before the pool is migrated and the job is in it
        numbers = backlog.status if backlog else None
        load = Load(numbers.ready_resources, numbers.leased_resources, numbers.working) if numbers else None
        memory.scale = scale(job, load, memory.scale, time.monotonic())
        if memory.scale.lower_since is None:
            return None
        return max(0.1, memory.scale.lower_since + job.spec.scaling.scale_down_delay_seconds - time.monotonic())

    def _forget(self, key: Key) -> None:
        self.memories.forget(key)
        self.pools.forget(key)


def _sooner(one: float | None, other: float | None) -> float | None:
    given = [seconds for seconds in (one, other) if seconds is not None]
    return min(given) if given else None
