"""The end of a StripedJob: a finalizer where its pool is to be cleaned, and only there. Bounded: it never hangs."""

import datetime as dt
from dataclasses import dataclass

from stripedjob.spec.model import StripedJob
from stripedjob_operator import manifests
from stripedjob_operator.cluster import Cluster
from stripedjob_operator.observed import Observed, Raw, key_of
from stripedjob_operator.pools import Pools

FINALIZER = "striped.dev/pool"
CLEANUP_SECONDS_MAX = 30.0  # how long a deleted StripedJob may wait for its pool to be cleaned
CLEANUP_RETRY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Cleanup:
    """Holds what cleaning up needs."""

    cluster: Cluster
    observed: Observed
    pools: Pools

    async def keep_finalizer(self, raw: Raw, job: StripedJob) -> None:
        """Have the finalizer where there is something to clean."""
        finalizers = raw["metadata"].get("finalizers", [])
        wanted = job.spec.pool.deletion_policy == "Delete"
        if (FINALIZER in finalizers) != wanted:
            others = [one for one in finalizers if one != FINALIZER]
            await self._set_finalizers(raw, others + [FINALIZER] * wanted)

    async def clean_up(self, raw: Raw, job: StripedJob | None) -> float | None:
        """Remove what a deleted StripedJob has in its pool, where that was asked for; returns when to try again.

        Its Deployments go first; the rest of its objects go by their ownerReferences.
        """
        finalizers = raw["metadata"].get("finalizers", [])
        if FINALIZER not in finalizers:
            return None
        key = key_of(raw)
        since = dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(raw["metadata"]["deletionTimestamp"])
        if job is not None:
            for name in (manifests.child_name(job), manifests.delegator_name(job)):
                await self.cluster.delete("Deployment", (key[0], name))
            clearing = await self.pools.clear(key, job)
            if not clearing.is_done:
                if since.total_seconds() < CLEANUP_SECONDS_MAX:
                    return CLEANUP_RETRY_SECONDS
                why = clearing.problem.message if clearing.problem else "it takes too long"
                message = f"the pool could not be cleaned, and its units are left: {why}"
                await self.cluster.event(raw, "Warning", "CleanupFailed", message)
        await self._set_finalizers(raw, [one for one in finalizers if one != FINALIZER])
        return None

    async def _set_finalizers(self, raw: Raw, finalizers: list[str]) -> None:
        written = await self.cluster.set_finalizers(raw, finalizers)
        if written is not None:
            raw["metadata"]["finalizers"] = finalizers
            self.observed.job_seen(written, written=True)
