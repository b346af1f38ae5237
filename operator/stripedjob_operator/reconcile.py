"""One look at one StripedJob: read → check → decide → apply → settle the pool → report. Any event leads here."""

import datetime as dt
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from stripedjob.locks import LockError
from stripedjob.pool.admin import PoolAdmin
from stripedjob.pool.errors import PoolError
from stripedjob.runtime.log import logger
from stripedjob.scaling import Load, Scale, scale
from stripedjob.schedule import latest_due, schedule_key
from stripedjob.settings import job_settings
from stripedjob.spec.load import SpecError, check
from stripedjob.spec.model import StripedJob
from stripedjob_operator import manifests
from stripedjob_operator import status as report
from stripedjob_operator.backlog import Backlog, Backlogs, Database
from stripedjob_operator.cluster import ApiError, Cluster
from stripedjob_operator.manifests import CHILDREN_ANNOTATION, Making
from stripedjob_operator.observed import Key, Observed, Problem, Raw
from stripedjob_operator.secrets import SecretError, Secrets
from stripedjob_operator.settings import OperatorSettings

FINALIZER = "striped.dev/pool"
CLEANUP_SECONDS_MAX = 30.0  # how long a deleted StripedJob may wait for its pool to be cleaned
CLEANUP_RETRY_SECONDS = 2.0
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
IDLE_COST = "-1000"
SCHEDULE_RETRY_SECONDS = 10.0
REFUSED_RETRY_SECONDS = 10.0
GONE = 410
NUMBERS = ("pool", "ratePerSecond", "workers")  # of a status
NUMBERS_SECONDS = 2.0  # between two writes of a status in which these alone have changed
NUMBERS_PER_SECOND_MAX = 10.0  # such writes, of all StripedJobs


@dataclass(slots=True)
class Memory:
    """What is remembered of a StripedJob between two looks; all of it can be lost."""

    uid: str = ""
    generation: int = -1
    job: StripedJob | None = None
    invalid: Problem | None = None
    scale: Scale | None = None
    applied: str = ""  # digest of the Deployment as it was last applied
    children: dict[str, str] | None = None
    deployment_generation: int = -1
    fired: dt.datetime | None = None
    fire_again_at: float = 0.0
    schedule_problem: Problem | None = None
    scheduled_at: str | None = None
    numbers_at: float = 0.0


@dataclass(slots=True)
class Reconciler:
    """Holds what a look needs."""

    cluster: Cluster
    observed: Observed
    secrets: Secrets
    backlogs: Backlogs
    settings: OperatorSettings
    wake: Callable[[Key], None]
    memories: dict[Key, Memory] = field(default_factory=dict)
    _numbers_left: float = NUMBERS_PER_SECOND_MAX
    _numbers_at: float = 0.0

    async def reconcile(self, key: Key) -> float | None:
        """Look at one StripedJob; returns after how many seconds to look again, where no event will say so.

        Raises ApiError and ApiUnreachableError: look again later.
        """
        raw = self.observed.jobs.get(key)
        if raw is None:
            self._forget(key)
            return None
        memory = self._remember(key, raw)
        if "deletionTimestamp" in raw["metadata"]:
            return await self._clean_up(key, raw, memory)
        job, problem = memory.job, memory.invalid or self._rival(key, memory)
        if job is None:
            return await self._report(raw, memory, report.View(None, memory.generation, invalid=problem))
        await self._keep_finalizer(raw, job)
        database, pool_problem = await self._find_pool(key, job)
        lock_problem = await self._check_lock(key, job)
        backlog = database.jobs.get(key) if database else None
        again = self._decide(key, memory, job, backlog, blocked=problem is not None)
        apply_problem = await self._apply(key, memory, job)
        if apply_problem:
            again = _sooner(again, REFUSED_RETRY_SECONDS)
        if database and not problem:
            pool_problem = await self._settle(key, job, database) or database.problem
            again = _sooner(again, await self._fire(key, memory, job, database))
            backlog = database.jobs.get(key)
        view = self._view(
            key, memory, backlog, invalid=problem, pool=pool_problem, lock=lock_problem, apply=apply_problem
        )
        return _sooner(again, await self._report(raw, memory, view))

    # --- what the user says

    def _remember(self, key: Key, raw: Raw) -> Memory:
        metadata = raw["metadata"]
        memory = self.memories.get(key)
        if memory is None or memory.uid != metadata["uid"]:
            memory = self.memories[key] = Memory(uid=metadata["uid"])
        if memory.generation != metadata["generation"]:
            memory.generation, memory.job, memory.invalid = metadata["generation"], None, None
            try:
                memory.job = check({name: part for name, part in raw.items() if name != "status"})
                self._wake_rivals(key, memory.job)
            except SpecError as error:
                memory.invalid = Problem("InvalidSpec", str(error))
        return memory

    def _rival(self, key: Key, memory: Memory) -> Problem | None:
        """Say whether an older StripedJob has the same pool: the younger of two does not run."""
        if memory.job is None:
            return None
        for other, known in self.memories.items():
            if (
                other != key
                and other[0] == key[0]
                and known.job is not None
                and known.job.job_type == memory.job.job_type
                and known.job.spec.pool == memory.job.spec.pool
                and self._age(other) < self._age(key)
            ):
                message = f'StripedJob "{other[1]}" is older and has the same pool (jobType {memory.job.job_type})'
                return Problem("PoolConflict", f"{message}; give this one another spec.jobType")
        return None

    def _wake_rivals(self, key: Key, job: StripedJob) -> None:
        for other, known in self.memories.items():
            if other != key and other[0] == key[0] and known.job is not None and known.job.job_type == job.job_type:
                self.wake(other)

    def _age(self, key: Key) -> tuple[str, str]:
        metadata = self.observed.jobs.get(key, {}).get("metadata", {})
        return metadata.get("creationTimestamp", "9"), metadata.get("uid", "")

    async def _find_pool(self, key: Key, job: StripedJob) -> tuple[Database | None, Problem | None]:
        assert job.spec.pool.secret_ref is not None  # noqa: S101 - a rule of the CRD
        try:
            url = await self.secrets.value(job, job.spec.pool.secret_ref)
        except SecretError as error:
            return None, error.problem
        return self.backlogs.database(key, url, job.spec.pool.sql_schema), None

    async def _check_lock(self, key: Key, job: StripedJob) -> Problem | None:
        ref = job.spec.lock.secret_ref
        if ref is None:  # backend Postgres, in the pool's own database
            return None
        try:
            return self.backlogs.lock_problem(key, job, await self.secrets.value(job, ref))
        except SecretError as error:
            return error.problem
        except LockError as error:
            return Problem("LockConfig", str(error))

    # --- how many workers

    def _decide(
        self, key: Key, memory: Memory, job: StripedJob, backlog: Backlog | None, *, blocked: bool
    ) -> float | None:
        """Decide on the number of workers; returns when to decide again."""
        if memory.scale is None:  # a new operator: as many as there are
            there = self.observed.deployments.get(key, {}).get("spec", {}).get("replicas", 0)
            memory.scale = Scale(there)
        if blocked:
            memory.scale = Scale(0)
            return None
        if backlog is None and memory.scale.workers == 0:
            return None  # Invariant: no worker before the pool is migrated and the job is in it
        numbers = backlog.status if backlog else None
        load = Load(numbers.ready_resources, numbers.leased_resources, numbers.working) if numbers else None
        memory.scale = scale(job, load, memory.scale, time.monotonic())
        if memory.scale.lower_since is None:
            return None
        return max(0.1, memory.scale.lower_since + job.spec.scaling.scale_down_delay_seconds - time.monotonic())

    # --- what is in the cluster

    async def _apply(self, key: Key, memory: Memory, job: StripedJob) -> Problem | None:
        """Make the objects so; returns why that was refused. Writes nothing where nothing has changed."""
        assert memory.scale is not None  # noqa: S101 - decided before
        names = [ref.name for ref in (job.spec.pool.secret_ref, job.spec.lock.secret_ref) if ref]
        making = Making(
            uid=memory.uid,
            image=self.settings.worker_image,
            workers=memory.scale.workers,
            secrets_version=self.secrets.version(key[0], names),
            priority_classes=self.settings.priority_classes,
        )
        wanted = manifests.children(job, making)
        digests = {kind: manifests.digest(one) for kind, one in wanted.items()}
        deployment = manifests.deployment(job, making, digests)
        digest = manifests.digest(deployment)
        known = self.observed.deployments.get(key)
        if known and memory.applied == digest and memory.deployment_generation == known["metadata"]["generation"]:
            return None
        try:
            if known is None and not await self._may_make(job, memory):
                return Problem("NameTaken", f'a Deployment "{manifests.child_name(job)}" is there that is not ours')
            await self._apply_children(job, memory, wanted, digests, known)
            if known and known["spec"]["replicas"] > making.workers > 0:
                await self._mark_idle(key, job)
            made = await self.cluster.apply(deployment)
        except ApiError as error:
            if error.code == GONE:
                raise
            return Problem("ApplyRefused", str(error))
        self.observed.deployment_seen(key, made)
        memory.applied, memory.deployment_generation = digest, made["metadata"]["generation"]
        return None

    async def _may_make(self, job: StripedJob, memory: Memory) -> bool:
        """Look before the first apply whether the StripedJob is still there, and the Deployment's name free or ours."""
        key = (job.metadata.namespace, job.metadata.name)
        there = await self.cluster.get(job.kind, key)
        if there is None or there["metadata"]["uid"] != memory.uid:
            self.observed.jobs.pop(key, None)
            raise ApiError(GONE, "the StripedJob is gone")
        found = await self.cluster.get("Deployment", (job.metadata.namespace, manifests.child_name(job)))
        owners = found["metadata"].get("ownerReferences", []) if found else []
        return found is None or any(owner["uid"] == memory.uid for owner in owners)

    async def _apply_children(
        self, job: StripedJob, memory: Memory, wanted: dict[str, Raw], digests: dict[str, str], known: Raw | None
    ) -> None:
        if memory.children is None:
            annotations = known["metadata"].get("annotations", {}) if known else {}
            memory.children = manifests.read_digests(annotations.get(CHILDREN_ANNOTATION, ""))
        for kind in memory.children.keys() - wanted.keys():
            await self.cluster.delete(kind, (job.metadata.namespace, manifests.child_name(job)))
        for kind, manifest in wanted.items():
            if memory.children.get(kind) != digests[kind]:
                await self.cluster.apply(manifest)
        memory.children = digests

    async def _mark_idle(self, key: Key, job: StripedJob) -> None:
        """Tell Kubernetes, before there are fewer, which pods are idle: those go first."""
        database = self.backlogs.of(key)
        if database is None or key not in database.jobs:
            return
        job_id = database.jobs[key].job_id
        try:
            workers = await database.call(lambda admin: admin.workers(job_id))
        except PoolError:
            return  # it is better to scale down than not to
        working = {one.name for one in workers if one.working}
        for name, pod in list(self.observed.pods.get(key, {}).items()):
            cost = "0" if name in working else IDLE_COST
            if not pod.ending and pod.deletion_cost != cost:
                await self.cluster.annotate_pod((job.metadata.namespace, name), {DELETION_COST: cost})

    # --- what is in the pool

    async def _settle(self, key: Key, job: StripedJob, database: Database) -> Problem | None:
        """Bring the job in the pool to the spec; returns why that could not be done."""
        wanted = job_settings(job)
        known = database.jobs.get(key)
        if known is not None and known.settings == wanted:
            return None
        try:
            job_id = await database.call(lambda admin: admin.apply(wanted))
        except PoolError as error:
            return database.problem or Problem("PoolRefused", str(error))
        if known is not None and known.job_id == job_id:
            known.settings = wanted
        else:
            database.jobs[key] = Backlog(wanted, job_id)
        return None

    async def _fire(self, key: Key, memory: Memory, job: StripedJob, database: Database) -> float | None:
        """Enqueue what the schedule asks for; returns after how many seconds to look again."""
        schedule, backlog = job.spec.schedule, database.jobs.get(key)
        if schedule is None or job.spec.suspend or backlog is None:
            memory.schedule_problem = None
            return None
        now = dt.datetime.now(dt.UTC)
        due = latest_due(schedule, now)
        again = 60.0 - now.timestamp() % 60.0 + 0.05  # the next minute, the unit of cron
        if due == memory.fired or time.monotonic() < memory.fire_again_at:
            return again
        query, job_id = (schedule.enqueue.sql if schedule.enqueue else None), backlog.job_id
        try:
            units = await database.call(lambda admin: admin.fire(job_id, schedule_key(schedule), due, query))
        except PoolError as error:
            memory.fire_again_at = time.monotonic() + SCHEDULE_RETRY_SECONDS
            memory.schedule_problem = Problem("ScheduleFailed", f"spec.schedule.enqueue.sql: {error}")
            return SCHEDULE_RETRY_SECONDS
        memory.fired, memory.schedule_problem = due, None
        if units is not None:
            memory.scheduled_at = due.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
            logger.info("scheduled", extra={"job": "/".join(key), "units": units, "due": memory.scheduled_at})
        return again

    # --- what the user sees

    def _view(
        self,
        key: Key,
        memory: Memory,
        backlog: Backlog | None,
        *,
        invalid: Problem | None,
        pool: Problem | None,
        lock: Problem | None,
        apply: Problem | None,
    ) -> report.View:
        deployment = self.observed.deployments.get(key, {})
        state = deployment.get("status", {})
        replicas = state.get("replicas", 0)
        generation = deployment.get("metadata", {}).get("generation", 0)
        return report.View(
            memory.job,
            memory.generation,
            invalid=invalid,
            pool=pool,
            lock=lock,
            schedule=memory.schedule_problem,
            apply=apply,
            numbers=backlog.status if backlog and not pool else None,
            rate=backlog.rate if backlog else 0.0,
            desired=memory.scale.workers if memory.scale else 0,
            replicas=replicas,
            ready=state.get("readyReplicas", 0),
            rolled_out=state.get("observedGeneration", 0) >= generation and state.get("updatedReplicas", 0) >= replicas,
            pods=tuple(self.observed.pods.get(key, {}).values()),
            scheduled_at=memory.scheduled_at,
        )

    async def _report(self, raw: Raw, memory: Memory, view: report.View) -> float | None:
        """Write the status, once and only where it has changed; numbers alone at a bounded rate."""
        old = raw.get("status", {})
        new = report.status(view, old, _now())
        patch = report.patch(new, old)
        if patch is None:
            return None
        alone = all(new.get(name) == old.get(name) for name in {*new, *old} - set(NUMBERS)) and new.get(
            "workers", {}
        ).get("desired") == old.get("workers", {}).get("desired")
        if alone and not self._may_write_numbers(memory):
            return NUMBERS_SECONDS
        written = await self.cluster.patch_status((raw["metadata"]["namespace"], raw["metadata"]["name"]), patch)
        if written is None:
            return None
        memory.numbers_at = time.monotonic()
        self.observed.job_seen(written, written=True)
        for kind, reason, message in report.events(new, old):
            await self.cluster.event(raw, kind, reason, message)
        return None

    def _may_write_numbers(self, memory: Memory) -> bool:
        now = time.monotonic()
        left = self._numbers_left + (now - self._numbers_at) * NUMBERS_PER_SECOND_MAX
        self._numbers_left, self._numbers_at = min(left, NUMBERS_PER_SECOND_MAX), now
        if self._numbers_left < 1 or now - memory.numbers_at < NUMBERS_SECONDS:
            return False
        self._numbers_left -= 1
        return True

    # --- the end

    async def _keep_finalizer(self, raw: Raw, job: StripedJob) -> None:
        """Have the finalizer where there is something to clean, and only there."""
        finalizers = raw["metadata"].get("finalizers", [])
        wanted = job.spec.pool.deletion_policy == "Delete"
        if (FINALIZER in finalizers) != wanted:
            others = [one for one in finalizers if one != FINALIZER]
            await self._set_finalizers(raw, others + [FINALIZER] * wanted)

    async def _set_finalizers(self, raw: Raw, finalizers: list[str]) -> None:
        written = await self.cluster.set_finalizers(raw, finalizers)
        if written is not None:
            raw["metadata"]["finalizers"] = finalizers
            self.observed.job_seen(written, written=True)

    async def _clean_up(self, key: Key, raw: Raw, memory: Memory) -> float | None:
        """Remove what a deleted StripedJob has in its pool, where that was asked for. Bounded: it never hangs.

        Its Deployment goes first; the rest of its objects go by their ownerReferences.
        """
        finalizers = raw["metadata"].get("finalizers", [])
        if FINALIZER not in finalizers:
            return None
        job = memory.job
        since = dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(raw["metadata"]["deletionTimestamp"])
        if job is not None:
            await self.cluster.delete("Deployment", (key[0], manifests.child_name(job)))
            try:
                await self._clear(key, job)
            except (PoolError, SecretError) as error:
                if since.total_seconds() < CLEANUP_SECONDS_MAX:
                    return CLEANUP_RETRY_SECONDS
                message = f"the pool could not be cleaned, and its units are left: {error}"
                await self.cluster.event(raw, "Warning", "CleanupFailed", message)
        await self._set_finalizers(raw, [one for one in finalizers if one != FINALIZER])
        return None

    async def _clear(self, key: Key, job: StripedJob) -> None:
        database, problem = await self._find_pool(key, job)
        if database is None:
            raise SecretError(problem or Problem("SecretNotFound", ""))
        settings = job_settings(job)

        def clear(admin: PoolAdmin) -> int:
            return admin.clear(admin.apply(settings))

        await database.call(clear)

    def _forget(self, key: Key) -> None:
        memory = self.memories.pop(key, None)
        if memory is not None and memory.job is not None:
            self._wake_rivals(key, memory.job)
        self.secrets.forget(key)
        self.backlogs.forget(key)


def _sooner(one: float | None, other: float | None) -> float | None:
    given = [seconds for seconds in (one, other) if seconds is not None]
    return min(given) if given else None


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
