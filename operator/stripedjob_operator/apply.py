"""The cluster's part of a reconcile: its objects are made so, and nothing is written that is so already."""

from dataclasses import dataclass

from stripedjob.spec.model import KIND, StripedJob
from stripedjob_operator import manifests
from stripedjob_operator.cluster import ApiError, Cluster
from stripedjob_operator.databases import Database
from stripedjob_operator.job_states import JobState
from stripedjob_operator.manifests import CHILDREN_ANNOTATION, ManifestInputs
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

    async def read_deployment(self, state: JobState, job: StripedJob) -> None:
        """Read the Deployment where the watch has not delivered it yet: a new operator's watches come in any order."""
        if state.key not in self.observed.deployments:
            found = await self.cluster.get("Deployment", (state.key[0], manifests.child_name(job)))
            if found is not None and _is_owned(found, state):
                self.observed.deployment_seen(state.key, found)

    async def apply(self, state: JobState, job: StripedJob, database: Database | None) -> Problem | None:
        """Make the objects so; returns why that was refused."""
        inputs = self._manifest_inputs(state, job)
        wanted = manifests.children(job, inputs)
        digests = {kind: manifests.digest(one) for kind, one in wanted.items()}
        deployment = manifests.deployment(job, inputs, digests)
        known = self.observed.deployments.get(state.key)
        try:
            if not _is_so(state, deployment, known):
                await self._may_make(state, deployment, known)
                await self._apply_children(state, job, wanted, digests, known)
                fewer = known if known and known["spec"]["replicas"] > inputs.workers > 0 else None
                if fewer is None or await self._mark_idle(state.key, fewer["status"]["replicas"], database):
                    await self._put(state, deployment)
            await self._apply_delegator(state, job, inputs)
        except NameTakenError as error:
            return Problem("NameTaken", str(error))
        except ApiError as error:
            if error.code == GONE:
                raise
            return Problem("ApplyRefused", str(error))
        return None

    async def _apply_delegator(self, state: JobState, job: StripedJob, inputs: ManifestInputs) -> None:
        """Have a delegator where the strategy has one, and none elsewhere."""
        known = self.observed.delegators.get(state.key)
        if job.strategy.delegated:
            wanted = manifests.delegator(job, inputs)
            if not _is_so(state, wanted, known):
                await self._may_make(state, wanted, known)
                await self._put(state, wanted)
        elif known:
            await self.cluster.delete("Deployment", (state.key[0], manifests.delegator_name(job)))

    async def _put(self, state: JobState, deployment: Raw) -> None:
        made = await self.cluster.apply(deployment)
        self.observed.deployment_seen(state.key, made)
        state.applied[made["metadata"]["name"]] = (manifests.digest(deployment), made["metadata"]["generation"])

    def _manifest_inputs(self, state: JobState, job: StripedJob) -> ManifestInputs:
        assert state.scale is not None  # noqa: S101 - decided before
        names = [ref.name for ref in (job.spec.pool.secret_ref, job.spec.lock.secret_ref) if ref]
        return ManifestInputs(
            uid=state.uid,
            image=self.settings.worker_image,
            workers=state.scale.workers,
            secrets_version=self.secrets.version(state.key[0], names),
            priority_classes=self.settings.priority_classes,
        )

    async def _may_make(self, state: JobState, deployment: Raw, known: Raw | None) -> None:
        """Check before the first apply that the StripedJob is still there, and the Deployment's name free or ours."""
        if known is not None:
            return
        there = await self.cluster.get(KIND, state.key)
        if there is None or there["metadata"]["uid"] != state.uid:
            self.observed.jobs.pop(state.key, None)
            raise ApiError(GONE, "the StripedJob is gone")
        name = deployment["metadata"]["name"]
        found = await self.cluster.get("Deployment", (state.key[0], name))
        if found is not None and not _is_owned(found, state):
            raise NameTakenError(f'a Deployment "{name}" is there that is not ours')

    async def _apply_children(
        self, state: JobState, job: StripedJob, wanted: dict[str, Raw], digests: dict[str, str], known: Raw | None
    ) -> None:
        if state.children is None:
            annotations = known["metadata"].get("annotations", {}) if known else {}
            state.children = manifests.read_digests(annotations.get(CHILDREN_ANNOTATION, ""))
        for kind in state.children.keys() - wanted.keys():
            await self.cluster.delete(kind, (state.key[0], manifests.child_name(job)))
        for kind, manifest in wanted.items():
            if state.children.get(kind) != digests[kind]:
                await self.cluster.apply(manifest)
        state.children = digests

    async def _mark_idle(self, key: Key, replicas: int, database: Database | None) -> bool:
        """Tell Kubernetes, before there are fewer than these, which pods are idle: those go first.

        False: it is not known yet. The pool is being asked, or the watch has not delivered all pods to a new operator.
        """
        if database is None or key not in database.jobs or database.problem:
            return True  # it is better to scale down than not to
        pods = self.observed.pods.get(key, {})
        working = database.busy(key) if len(pods) >= replicas else None
        if working is None:
            return False
        for name, pod in list(pods.items()):
            cost = "0" if name in working else IDLE_COST
            if not pod.ending and pod.deletion_cost != cost:
                await self.cluster.annotate_pod((key[0], name), {DELETION_COST: cost})
        return True


def _is_owned(found: Raw, state: JobState) -> bool:
    return any(owner["uid"] == state.uid for owner in found["metadata"].get("ownerReferences", []))


def _is_so(state: JobState, deployment: Raw, known: Raw | None) -> bool:
    """Return whether the Deployment is as it was applied last, and that is as it is wanted."""
    if known is None:
        return False
    applied = (manifests.digest(deployment), known["metadata"]["generation"])
    return state.applied.get(deployment["metadata"]["name"]) == applied
