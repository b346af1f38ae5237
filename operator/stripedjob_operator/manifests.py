"""Pure: from a StripedJob to the objects that are made for it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stripedjob.settings import worker_spec
from stripedjob.spec.model import API_VERSION, KIND, SecretRef, StripedJob
from stripedjob_operator.observed import DELEGATOR, JOB_LABEL, NAME_LABEL, OWN, Raw

CONTAINER = "worker"
PORT = 8080
PID_FILE = "/tmp/stripedjob.pid"
GRACE_SECONDS = 15  # on top of drainSeconds, before a pod is killed
# kind → digest of what was applied, so that a new operator need not apply it again
CHILDREN_ANNOTATION = "striped.dev/children"
SECRETS_ANNOTATION = "striped.dev/secrets"  # digest of the Secrets' versions: a changed Secret rolls the pods
OTHER_KINDS = {"ServiceAccount", "PodDisruptionBudget", "NetworkPolicy"}
MERGE_KEYS = {  # how Kubernetes itself merges these lists
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "volumeMounts": "mountPath",
    "ports": "containerPort",
    "topologySpreadConstraints": "topologyKey",
}


@dataclass(frozen=True, slots=True)
class ManifestInputs:
    """What the objects depend on besides the StripedJob. `priority_classes`: the highest first."""

    uid: str
    image: str
    workers: int
    secrets_version: str
    priority_classes: tuple[tuple[int, str], ...] = ()


def child_name(job: StripedJob) -> str:
    """Return the name of everything that is made for a StripedJob."""
    return f"{job.metadata.name}-worker"


def selector(job: StripedJob) -> dict[str, str]:
    """Return the labels by which the workers' pods are found."""
    return {NAME_LABEL: "stripedjob-worker", JOB_LABEL: job.metadata.name}


def delegator_name(job: StripedJob) -> str:
    """Return the name of the delegator's Deployment."""
    return f"{job.metadata.name}-delegator"


def children(job: StripedJob, inputs: ManifestInputs) -> dict[str, Raw]:
    """Return the objects besides the Deployment, by kind."""
    made: dict[str, Raw] = {
        "ServiceAccount": {"apiVersion": "v1", "automountServiceAccountToken": False},
        "PodDisruptionBudget": {
            "apiVersion": "policy/v1",
            "spec": {"maxUnavailable": "25%", "selector": {"matchLabels": selector(job)}},
        },
    }
    if job.spec.network_policy:
        made["NetworkPolicy"] = {
            "apiVersion": "networking.k8s.io/v1",
            "spec": {
                "podSelector": {"matchLabels": {JOB_LABEL: job.metadata.name}},
                "policyTypes": ["Ingress"],
                "ingress": [{"ports": [{"protocol": "TCP", "port": PORT}]}],
            },
        }
    return {kind: one | {"kind": kind, "metadata": _metadata(job, inputs)} for kind, one in made.items()}


def deployment(job: StripedJob, inputs: ManifestInputs, digests: Mapping[str, str]) -> Raw:
    """Return the workers' Deployment; `digests` are those of the other children."""
    metadata = _metadata(job, inputs)
    metadata["annotations"] = {CHILDREN_ANNOTATION: json.dumps(dict(digests), sort_keys=True)}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "replicas": inputs.workers,
            "revisionHistoryLimit": 2,
            "selector": {"matchLabels": selector(job)},
            # Invariant: a roll-out starts no worker above the limit; the limit itself is held at the claim.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": "25%"}},
            "template": _template(job, inputs),
        },
    }


def delegator(job: StripedJob, inputs: ManifestInputs) -> Raw:
    """Return the delegator's Deployment: the workers' pod with another command, once, while there are workers."""
    made = deployment(job, inputs, {})
    labels = selector(job) | {NAME_LABEL: DELEGATOR}
    made["metadata"] |= {"name": delegator_name(job), "labels": labels | OWN}
    del made["metadata"]["annotations"]
    pod = made["spec"]["template"]
    pod["metadata"]["labels"] |= labels
    del pod["spec"]["topologySpreadConstraints"]
    container = next(one for one in pod["spec"]["containers"] if one["name"] == CONTAINER)
    container["args"] = ["delegator"]
    made["spec"] |= {
        "replicas": min(1, inputs.workers),
        "selector": {"matchLabels": labels},
        "strategy": {"type": "Recreate"},
    }
    return made


def digest(manifest: Raw) -> str:
    """Return a short text that is another for another manifest."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:16]


def merge(base: Any, over: Any, name: str = "") -> Any:
    """Lay `over` on `base` as a strategic merge patch would: known lists by their keys, null removes."""
    if isinstance(base, dict) and isinstance(over, dict):
        merged = {key: value for key, value in base.items() if key not in over or over[key] is not None}
        for key, value in over.items():
            if value is not None:
                merged[key] = merge(base.get(key), value, key)
        return merged
    if isinstance(base, list) and isinstance(over, list) and name in MERGE_KEYS:
        known = {_key(one, name): one for one in base}
        for one in over:
            key = _key(one, name)
            known[key] = merge(known.get(key), one)
        return list(known.values())
    if isinstance(over, dict):
        return merge({}, over)
    return [merge(None, one) for one in over] if isinstance(over, list) else over


def _key(one: Any, name: str) -> str:
    key = one.get(MERGE_KEYS[name]) if isinstance(one, dict) else one
    return json.dumps(key, sort_keys=True, default=str)


def _metadata(job: StripedJob, inputs: ManifestInputs) -> dict[str, Any]:
    owner = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": job.metadata.name,
        "uid": inputs.uid,
        "controller": True,
    }
    return {
        "name": child_name(job),
        "namespace": job.metadata.namespace,
        "labels": selector(job) | OWN,
        "ownerReferences": [owner],
    }


def _template(job: StripedJob, inputs: ManifestInputs) -> dict[str, Any]:
    """Return the pod: ours, the user's laid on it, and on that again what is not the user's to change."""
    own = _pod(job, inputs)
    users = job.spec.template.model_dump(by_alias=True, exclude_unset=True) if job.spec.template else {}
    env = own["spec"]["containers"][0]["env"]
    spec = dict(users.get("spec") or {})
    if isinstance(spec.get("containers"), list):
        spec["containers"] = [_without(one, {entry["name"] for entry in env}) for one in spec["containers"]]
    merged = merge(own, users | {"spec": spec})
    return dict(merge(merged, {"metadata": own["metadata"], "spec": {"containers": [{"name": CONTAINER, "env": env}]}}))


def _without(container: Any, names: set[str]) -> Any:
    """Take these environment variables out of what the user says of the worker's container."""
    if not isinstance(container, dict) or container.get("name") != CONTAINER:
        return container
    env = container.get("env")
    if isinstance(env, list):
        env = [one for one in env if not isinstance(one, dict) or one.get("name") not in names]
    return container | {"env": env or []}


def _pod(job: StripedJob, inputs: ManifestInputs) -> dict[str, Any]:
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": selector(job)},
    }
    spec = {
        "serviceAccountName": child_name(job),
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": job.spec.drain_seconds + GRACE_SECONDS,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        # The kernel keeps SIGTERM from a process 1 without a handler: a worker ended while it starts would go on.
        "shareProcessNamespace": True,
        "topologySpreadConstraints": [spread],
        "containers": [_container(job, inputs)],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    classes = (name for least, name in inputs.priority_classes if job.spec.importance >= least)
    if priority_class := next(classes, None):
        spec["priorityClassName"] = priority_class
    annotations = {SECRETS_ANNOTATION: inputs.secrets_version}
    return {"metadata": {"labels": selector(job) | OWN, "annotations": annotations}, "spec": spec}


def _container(job: StripedJob, inputs: ManifestInputs) -> dict[str, Any]:
    return {
        "name": CONTAINER,
        "image": inputs.image,
        "imagePullPolicy": "IfNotPresent",
        "env": _env(job),
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        # SIGTERM reaches the container's first process alone: a shell that starts the worker may keep it to itself.
        "lifecycle": {"preStop": {"exec": {"command": ["stripedjob", "drain"]}}},
        "startupProbe": _probe("/livez", period=1, failures=120),
        "livenessProbe": _probe("/livez", period=10, failures=6),
        "readinessProbe": _probe("/readyz", period=2, failures=3),
        "terminationMessagePolicy": "FallbackToLogsOnError",  # the error becomes a condition
        "resources": {"requests": {"cpu": "50m", "memory": "96Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }


def _env(job: StripedJob) -> list[dict[str, Any]]:
    env: list[dict[str, Any]] = [
        {"name": "STRIPEDJOB_SPEC", "value": worker_spec(job)},
        {"name": "STRIPEDJOB_WORKER", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
        {"name": "STRIPEDJOB_PORT", "value": str(PORT)},
        {"name": "STRIPEDJOB_PID_FILE", "value": PID_FILE},
    ]
    urls = {"STRIPEDJOB_POSTGRES_URL": job.spec.pool.secret_ref, "STRIPEDJOB_LOCK_URL": job.spec.lock.secret_ref}
    return env + [_from_secret(name, ref) for name, ref in urls.items() if ref]


def _probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _from_secret(name: str, ref: SecretRef) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": ref.name, "key": ref.key}}}


def read_digests(annotation: str) -> dict[str, str]:
    """Read CHILDREN_ANNOTATION; {} where it is missing or was written by somebody else."""
    try:
        found = json.loads(annotation)
    except ValueError:
        return {}
    return found if isinstance(found, dict) and found.keys() <= OTHER_KINDS else {}
