"""What the cluster has, as far as it is known: filled by the watches and by the answers to our own writes.

Whatever comes with an older resourceVersion than what is known is left aside, so that a slow watch cannot undo a write.
"""

import json
import time
from dataclasses import dataclass, field
from typing import Any

Raw = dict[str, Any]
Key = tuple[str, str]  # namespace and name of a StripedJob

JOB_LABEL = "striped.dev/job"
NAME_LABEL = "app.kubernetes.io/name"
DELEGATOR = "stripedjob-delegator"  # its value on the delegator's Deployment and pod
OWN = {"app.kubernetes.io/managed-by": "stripedjob-operator"}  # on everything that the operator makes
ECHO_SECONDS_MAX = 120.0  # how long a watch may take to tell of our own write
KEPT_JOB_METADATA = (
    *("namespace", "name", "uid", "resourceVersion", "generation"),
    *("creationTimestamp", "deletionTimestamp", "finalizers"),
)
KEPT_METADATA = ("uid", "resourceVersion", "generation", "annotations")  # of a Deployment
KEPT_STATUS = ("observedGeneration", "replicas", "readyReplicas", "updatedReplicas")
WAITING_PROBLEMS = {
    *("CrashLoopBackOff", "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"),
    *("CreateContainerConfigError", "CreateContainerError", "RunContainerError"),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong: a reason in CamelCase and a message for a person."""

    reason: str
    message: str


LOCK_PENDING = Problem("LockPending", "the lock backend has not been asked yet")


@dataclass(frozen=True, slots=True)
class Pod:
    """What matters of a worker's pod."""

    ready: bool
    ending: bool
    deletion_cost: str
    problem: Problem | None


@dataclass(slots=True)
class Observed:
    """StripedJobs, the Deployments of their workers and delegators, and the pods of both."""

    jobs: dict[Key, Raw] = field(default_factory=dict)
    deployments: dict[Key, Raw] = field(default_factory=dict)
    delegators: dict[Key, Raw] = field(default_factory=dict)
    pods: dict[Key, dict[str, Pod]] = field(default_factory=dict)
    _echoes: dict[Key, tuple[int, float]] = field(default_factory=dict)

    def job_seen(self, raw: Raw, *, written: bool = False) -> bool:
        """Take a StripedJob; False: nothing new. `written`: it is the answer to our own write.

        Of its metadata, what is asked for is kept. Its spec and status are kept as text, which is small.
        """
        key, version = key_of(raw), version_of(raw)
        known = self.jobs.get(key)
        if written:
            if known is None or known["metadata"]["uid"] != raw["metadata"]["uid"]:
                return False  # deleted while we wrote
            if version > version_of(known):  # else the watch was quicker than the answer
                self._echoes.setdefault(key, (version, time.monotonic()))
        elif key in self._echoes and version >= self._echoes[key][0]:
            del self._echoes[key]
        kept = {
            "metadata": _kept(raw["metadata"], KEPT_JOB_METADATA),
            "spec": json.dumps(raw.get("spec", {})),
            "status": json.dumps(raw.get("status", {})),
        }
        return _take(self.jobs, key, kept)

    def job_gone(self, key: Key, _: Raw) -> None:
        """Forget a StripedJob."""
        self._echoes.pop(key, None)
        self.jobs.pop(key, None)

    def deployment_seen(self, key: Key, raw: Raw) -> bool:
        """Take of a Deployment what is asked for; False: nothing new."""
        kept = {
            "metadata": _kept(raw["metadata"], KEPT_METADATA),
            "spec": {"replicas": raw["spec"]["replicas"]},
            "status": {name: raw.get("status", {}).get(name, 0) for name in KEPT_STATUS},
        }
        return _take(self._deployments_like(raw), key, kept)

    def deployment_gone(self, key: Key, raw: Raw) -> None:
        """Forget a Deployment, unless another has taken its name."""
        deployments = self._deployments_like(raw)
        known = deployments.get(key)
        if known is not None and known["metadata"]["uid"] == raw["metadata"]["uid"]:
            del deployments[key]

    def _deployments_like(self, raw: Raw) -> dict[Key, Raw]:
        is_delegator = raw["metadata"].get("labels", {}).get(NAME_LABEL) == DELEGATOR
        return self.delegators if is_delegator else self.deployments

    def pod_seen(self, key: Key, raw: Raw) -> bool:
        """Take a pod; False: nothing that matters has changed."""
        pods, name = self.pods.setdefault(key, {}), raw["metadata"]["name"]
        pod = read_pod(raw)
        if pods.get(name) == pod:
            return False
        pods[name] = pod
        return True

    def pod_gone(self, key: Key, raw: Raw) -> None:
        """Forget a pod."""
        pods = self.pods.get(key, {})
        pods.pop(raw["metadata"]["name"], None)
        if not pods:
            self.pods.pop(key, None)

    def watch_problem(self) -> str | None:
        """Return whether the watch of StripedJobs has failed to tell of our own writes."""
        since = min((at for _, at in self._echoes.values()), default=None)
        if since is None or time.monotonic() - since < ECHO_SECONDS_MAX:
            return None
        return "the watch of StripedJobs has stalled"


def key_of(raw: Raw) -> Key:
    """Return the namespace and the name."""
    return raw["metadata"]["namespace"], raw["metadata"]["name"]


def owner_of(raw: Raw) -> Key | None:
    """Return the StripedJob that an object was made for, by its label."""
    name = raw["metadata"].get("labels", {}).get(JOB_LABEL)
    return (raw["metadata"]["namespace"], name) if name else None


def version_of(raw: Raw) -> int:
    """Return the resourceVersion: of all objects of one kind, whatever was written later has a greater one."""
    return int(raw["metadata"]["resourceVersion"])


def _take(known: dict[Key, Raw], key: Key, raw: Raw) -> bool:
    old = known.get(key)
    if old is not None and version_of(raw) <= version_of(old):
        return False
    known[key] = raw
    return True


def _kept(metadata: Raw, names: tuple[str, ...]) -> Raw:
    return {name: metadata[name] for name in names if name in metadata}


def read_pod(raw: Raw) -> Pod:
    """Take from a pod what matters."""
    status = raw.get("status", {})
    conditions = {one["type"]: one for one in status.get("conditions", [])}
    ready = conditions.get("Ready", {}).get("status") == "True"
    return Pod(
        ready=ready,
        ending="deletionTimestamp" in raw["metadata"],
        deletion_cost=raw["metadata"].get("annotations", {}).get("controller.kubernetes.io/pod-deletion-cost", "0"),
        problem=None if ready else _problem(status, conditions),
    )


def _problem(status: Raw, conditions: dict[str, Raw]) -> Problem | None:
    for container in (*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])):
        waiting = container.get("state", {}).get("waiting", {})
        ended = container.get("state", {}).get("terminated") or container.get("lastState", {}).get("terminated") or {}
        if ended.get("exitCode"):
            words = _last_words(ended.get("message", "")) or f"exit code {ended['exitCode']}"
            return Problem("WorkerFails", f"container {container['name']} ends: {words}")
        if waiting.get("reason") in WAITING_PROBLEMS:
            message = waiting.get("message") or waiting["reason"]
            return Problem(waiting["reason"], f"container {container['name']}: {message}")
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
        return Problem("Unschedulable", scheduled.get("message", "no node takes its pod"))
    return None


def _last_words(log: str) -> str:
    """Return what a worker said last: the event of its last JSON line, or the line."""
    lines = [line for line in log.splitlines() if line.strip()]
    if not lines:
        return ""
    try:
        return str(json.loads(lines[-1])["event"])
    except (ValueError, KeyError, TypeError):
        return lines[-1].strip()
