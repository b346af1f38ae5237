"""One reconcile of one StripedJob: read → find its pool → want → decide → apply → report. Any event leads here.

It waits for the API server alone. What is to be done in the pool, the tasks of databases.py do.
"""

import time
from dataclasses import dataclass

from stripedjob.pool.client.viewer import JobStatus
from stripedjob.scaling import Load, Scale, scale
from stripedjob.settings import job_settings
from stripedjob.spec.model import StripedJob
from stripedjob_operator.apply import Applier
from stripedjob_operator.cleanup import Cleanup
from stripedjob_operator.databases import Backlog, Database
from stripedjob_operator.job_states import JobState, JobStates, read
from stripedjob_operator.observed import Key, Observed
from stripedjob_operator.pools import Pools
from stripedjob_operator.reporter import Reporter
from stripedjob_operator.status import View

REFUSED_RETRY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Reconciler:
    """Holds what a reconcile needs."""

    observed: Observed
    memories: JobStates
    pools: Pools
    applier: Applier
    reporter: Reporter
    cleanup: Cleanup

    async def reconcile(self, key: Key) -> float | None:
        """Reconcile one StripedJob; returns after how many seconds to do so again, where no event will say so.

        Raises ApiError and ApiUnreachableError: try again later.
        """
        raw = self.observed.jobs.get(key)
        if raw is None:
            self._forget(key)
            return None
        job, problem = read(raw)
        state = self.memories.of(key, raw, job)
        if "deletionTimestamp" in raw["metadata"]:
            return await self.cleanup.clean_up(raw, job)
        problem = problem or self.memories.conflict(state)
        if job is None:
            return await self.reporter.report(raw, state, View(None, state.generation, invalid=problem))
        await self.cleanup.keep_finalizer(raw, job)
        database, pool_problem = await self.pools.find(key, job)
        lock_problem = await self.pools.check_lock(key, job)
        if database:
            _want(database, key, job, blocked=problem is not None)
            pool_problem = database.problem_of(key)
        backlog = database.jobs.get(key) if database else None
        if state.scale is None:
            await self.applier.read_deployment(state, job)
        again = self._decide(
            state, job, backlog, is_away=bool(database and database.problem), blocked=problem is not None
        )
        apply_problem = await self.applier.apply(state, job, database)
        if apply_problem:
            again = _sooner(again, REFUSED_RETRY_SECONDS)
        clock = database.long.clocks.get(key) if database else None
        view = self.reporter.view(
            state, job, backlog, clock, invalid=problem, pool=pool_problem, lock=lock_problem, apply=apply_problem
        )
        return _sooner(again, await self.reporter.report(raw, state, view))

    def _decide(
        self, state: JobState, job: StripedJob, backlog: Backlog | None, *, is_away: bool, blocked: bool
    ) -> float | None:
        """Decide on the number of workers; returns when to decide again."""
        is_first = state.scale is None
        if state.scale is None:  # a new operator: as many as there are
            there = self.observed.deployments.get(state.key, {}).get("spec", {}).get("replicas", 0)
            state.scale = Scale(there)
        if blocked:
            state.scale = Scale(0)
            return None
        if is_first and state.scale.workers:
            return 0.0  # not fewer before its pool was asked once which of them are idle
        if backlog is None and state.scale.workers == 0:
            return None  # Invariant: no worker before the pool is migrated and the job is in it
        numbers = backlog.status if backlog and not is_away else None
        state.scale = scale(job, _load(numbers), state.scale, time.monotonic())
        if state.scale.lower_since is None:
            return None
        return max(0.1, state.scale.lower_since + job.spec.scaling.scale_down_delay_seconds - time.monotonic())

    def _forget(self, key: Key) -> None:
        self.memories.forget(key)
        self.pools.forget(key)


def _load(numbers: JobStatus | None) -> Load | None:
    if numbers is None:
        return None
    return Load(numbers.ready_resources, numbers.leased_resources, numbers.working, numbers.paused_by is not None)


def _want(database: Database, key: Key, job: StripedJob, *, blocked: bool) -> None:
    """Have the job in its pool, and its schedule followed once it is there; a blocked one's stays as it is."""
    database.want(key, None if blocked else job_settings(job))
    backlog = database.jobs.get(key)
    is_scheduled = not (blocked or job.spec.suspend)
    if backlog:
        database.long.schedule(key, job.spec.schedule if is_scheduled else None, backlog.job_id)


def _sooner(one: float | None, other: float | None) -> float | None:
    given = [seconds for seconds in (one, other) if seconds is not None]
    return min(given) if given else None
