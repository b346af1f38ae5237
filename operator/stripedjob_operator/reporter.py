"""The user's part of a reconcile: its status and Events. Numbers alone are written at a bounded rate."""

import datetime as dt
import json
import time
from dataclasses import dataclass, replace

from stripedjob.spec.model import StripedJob
from stripedjob_operator import status
from stripedjob_operator.cluster import Cluster
from stripedjob_operator.databases import Backlog
from stripedjob_operator.job_states import JobState
from stripedjob_operator.longcalls import Clock
from stripedjob_operator.observed import Observed, Problem, Raw
from stripedjob_operator.secrets import Secrets
from stripedjob_operator.urls import without_secrets

NUMBERS = ("pool", "ratePerSecond", "workers")  # of a status
NUMBERS_SECONDS = 2.0  # between two writes of a status in which these alone have changed
NUMBERS_PER_SECOND_MAX = 10.0  # such writes, of all StripedJobs


@dataclass(slots=True)
class Reporter:
    """Writes statuses, and remembers how many it has written."""

    cluster: Cluster
    observed: Observed
    secrets: Secrets
    _left: float = NUMBERS_PER_SECOND_MAX
    _at: float = 0.0

    async def report(self, raw: Raw, job_state: JobState, view: status.View) -> float | None:
        """Write the status, once and only where it has changed; returns when to try again where it was put off."""
        old = json.loads(raw["status"])
        new = status.status(view, old, _now())
        patch = status.patch(new, old)
        if patch is None:
            return None
        if _numbers_alone(new, old) and not self._may_write_numbers(job_state):
            return NUMBERS_SECONDS
        written = await self.cluster.patch_status(job_state.key, patch)
        if written is None:
            return None
        job_state.numbers_at = time.monotonic()
        self.observed.job_seen(written, written=True)
        for kind, reason, message in status.events(new, old):
            await self.cluster.event(raw, kind, reason, message)
        return None

    def view(
        self,
        job_state: JobState,
        job: StripedJob,
        backlog: Backlog | None,
        clock: Clock | None,
        *,
        invalid: Problem | None,
        pool: Problem | None,
        lock: Problem | None,
        apply: Problem | None,
    ) -> status.View:
        """Put together what the status is made of."""
        urls = self.secrets.known(job)
        deployment = self.observed.deployments.get(job_state.key, {})
        delegator = self.observed.delegators.get(job_state.key, {})
        state = deployment.get("status", {})
        replicas, desired = state.get("replicas", 0), job_state.scale.workers if job_state.scale else 0
        generation = deployment.get("metadata", {}).get("generation", 0)
        followed = state.get("observedGeneration", 0) >= generation and state.get("updatedReplicas", 0) >= replicas
        return status.View(
            job,
            job_state.generation,
            invalid=invalid,
            pool=pool,
            lock=lock,
            schedule=clock.problem if clock else None,
            apply=_without_secrets(apply, urls),
            numbers=backlog.status if backlog and not pool else None,
            rate=backlog.rate if backlog else 0.0,
            desired=desired,
            replicas=replicas,
            ready=state.get("readyReplicas", 0),
            rolled_out=followed or not (replicas or desired),  # no pod is there, and none is to come
            delegating=delegator.get("status", {}).get("readyReplicas", 0) > 0,
            pods=tuple(
                replace(pod, problem=_without_secrets(pod.problem, urls))
                for pod in self.observed.pods.get(job_state.key, {}).values()
            ),
            scheduled_at=clock.scheduled_at if clock else None,
        )

    def _may_write_numbers(self, job_state: JobState) -> bool:
        now = time.monotonic()
        left = self._left + (now - self._at) * NUMBERS_PER_SECOND_MAX
        self._left, self._at = min(left, NUMBERS_PER_SECOND_MAX), now
        if self._left < 1 or now - job_state.numbers_at < NUMBERS_SECONDS:
            return False
        self._left -= 1
        return True


def _without_secrets(problem: Problem | None, urls: list[str]) -> Problem | None:
    """Hide in the words of workers and of the API server what is secret in the StripedJob's URLs."""
    return problem and Problem(problem.reason, without_secrets(problem.message, urls))


def _numbers_alone(new: Raw, old: Raw) -> bool:
    others = {*new, *old} - set(NUMBERS)
    desired = (one.get("workers", {}).get("desired") for one in (new, old))
    return all(new.get(name) == old.get(name) for name in others) and len(set(desired)) == 1


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
