"""The cluster's part of a reconcile: its objects are made so, and nothing is written that is so already."""

from dataclasses import dataclass

from stripedjob.spec.model import KIND, StripedJob
from stripedjob_operator import manifests
from stripedjob_operator.cluster import ApiError, Cluster
from stripedjob_operator.databases import Database
from stripedjob_operator.manifests import CHILDREN_ANNOTATION, Making
from stripedjob_operator.memory import Memory
from stripedjob_operator.observed import Key, Observed, Problem, Raw
from stripedjob_operator.secrets import Secrets
from stripedjob_operator.settings import OperatorSettings

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
IDLE_COST = "-1000"
GONE = 410


class NameTakenError(Exception):
    """An object of somebody else has the name of one of ours."""


@dataclass(frozen=True, slots=True)
class Applier:
    """Holds what applying needs."""

    cluster: Cluster
    observed: Observed
    secrets: Secrets
    settings: OperatorSettings

    async def read_deployment(self, memory: Memory, job: StripedJob) -> None:
        """Read the Deployment where no watch has told of it yet: of a new operator's watches any may come last."""
        if memory.key not in self.observed.deployments:
            found = await self.cluster.get("Deployment", (memory.key[0], manifests.child_name(job)))
            if found is not None and _is_owned(found, memory):
                self.observed.deployment_seen(memory.key, found)

    async def apply(self, memory: Memory, job: StripedJob, database: Database | None) -> Problem | None:
        """Make the objects so; returns why that was refused."""
        making = self._making(memory, job)
        wanted = manifests.children(job, making)
        digests = {kind: manifests.digest(one) for kind, one in wanted.items()}
        deployment = manifests.deployment(job, making, digests)
        known = self.observed.deployments.get(memory.key)
        try:
            if not _is_so(memory, deployment, known):
                await self._may_make(memory, deployment, known)
                await self._apply_children(memory, job, wanted, digests, known)
                are_fewer = known is not None and known["spec"]["replicas"] > making.workers > 0
                if not are_fewer or await self._mark_idle(memory.key, database):
                    await self._put(memory, deployment)
            await self._apply_delegator(memory, job, making)
        except NameTakenError as error:
            return Problem("NameTaken", str(error))
        except ApiError as error:
            if error.code == GONE:
                raise
            return Problem("ApplyRefused", str(error))
        return None

    async def _apply_delegator(self, memory: Memory, job: StripedJob, making: Making) -> None:
        """Have a delegator where the strategy has one, and none elsewhere."""
        known = self.observed.delegators.get(memory.key)
        if job.strategy.delegated:
            wanted = manifests.delegator(job, making)
            if not _is_so(memory, wanted, known):
                await self._may_make(memory, wanted, known)
                await self._put(memory, wanted)
        elif known:
            await self.cluster.delete("Deployment", (memory.key[0], manifests.delegator_name(job)))

    async def _put(self, memory: Memory, deployment: Raw) -> None:
        made = await self.cluster.apply(deployment)
        self.observed.deployment_seen(memory.key, made)
        memory.applied[made["metadata"]["name"]] = (manifests.digest(deployment), made["metadata"]["generation"])

    def _making(self, memory: Memory, job: StripedJob) -> Making:
        assert memory.scale is not None  # noqa: S101 - decided before
        names = [ref.name for ref in (job.spec.pool.secret_ref, job.spec.lock.secret_ref) if ref]
        return Making(
            uid=memory.uid,
            image=self.settings.worker_image,
            workers=memory.scale.workers,
            secrets_version=self.secrets.version(memory.key[0], names),
            priority_classes=self.settings.priority_classes,
        )

    async def _may_make(self, memory: Memory, deployment: Raw, known: Raw | None) -> None:
        """Check before the first apply that the StripedJob is still there, and the Deployment's name free or ours."""
        if known is not None:
            return
        there = await self.cluster.get(KIND, memory.key)
        if there is None or there["metadata"]["uid"] != memory.uid:
            self.observed.jobs.pop(memory.key, None)
            raise ApiError(GONE, "the StripedJob is gone")
        name = deployment["metadata"]["name"]
        found = await self.cluster.get("Deployment", (memory.key[0], name))
        if found is not None and not _is_owned(found, memory):
            raise NameTakenError(f'a Deployment "{name}" is there that is not ours')

    async def _apply_children(
        self, memory: Memory, job: StripedJob, wanted: dict[str, Raw], digests: dict[str, str], known: Raw | None
    ) -> None:
        if memory.children is None:
            annotations = known["metadata"].get("annotations", {}) if known else {}
            memory.children = manifests.read_digests(annotations.get(CHILDREN_ANNOTATION, ""))
        for kind in memory.children.keys() - wanted.keys():
            await self.cluster.delete(kind, (memory.key[0], manifests.child_name(job)))
        for kind, manifest in wanted.items():
            if memory.children.get(kind) != digests[kind]:
                await self.cluster.apply(manifest)
        memory.children = digests

    async def _mark_idle(self, key: Key, database: Database | None) -> bool:
        """Tell Kubernetes, before there are fewer, which pods are idle: those go first. False: it is being asked."""
        if database is None or key not in database.jobs or database.problem:
            return True  # it is better to scale down than not to
        working = database.busy(key)
        if working is None:
            return False
        for name, pod in list(self.observed.pods.get(key, {}).items()):
            cost = "0" if name in working else IDLE_COST
            if not pod.ending and pod.deletion_cost != cost:
                await self.cluster.annotate_pod((key[0], name), {DELETION_COST: cost})
        return True


def _is_owned(found: Raw, memory: Memory) -> bool:
    return any(owner["uid"] == memory.uid for owner in found["metadata"].get("ownerReferences", []))


def _is_so(memory: Memory, deployment: Raw, known: Raw | None) -> bool:
    """Say whether the Deployment is as it was applied last, and that is as it is wanted."""
    if known is None:
        return False
    applied = (manifests.digest(deployment), known["metadata"]["generation"])
    return memory.applied.get(deployment["metadata"]["name"]) == applied
