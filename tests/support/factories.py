"""StripedJobs, numbers of a pool and objects of Kubernetes for the tests of pure functions."""

from __future__ import annotations

from dataclasses import MISSING, fields, replace
from typing import Any

from stripedjob.pool.client.viewer import JobStatus
from stripedjob.spec.model import StripedJob
from stripedjob_operator.manifests import ManifestInputs

UID = "11111111-2222-3333-4444-555555555555"
URL_KEYS = {"pool": "postgres", "lock": "redis"}
INPUTS = ManifestInputs(uid=UID, image="worker:1", workers=2, secrets_version="abc")
ZEROS: dict[str, Any] = {field.name: 0 for field in fields(JobStatus) if field.default is MISSING}
NUMBERS = JobStatus(**ZEROS | {"namespace": "shop", "job_type": "listing", "id": 7})


def job(name: str = "listing", **spec: Any) -> StripedJob:
    secret = {part: {"secretRef": {"name": "databases", "key": key}} for part, key in URL_KEYS.items()}
    return StripedJob.model_validate(
        {
            "apiVersion": "striped.dev/v1alpha1",
            "kind": "StripedJob",
            "metadata": {"name": name, "namespace": "shop", "generation": 3, "uid": UID},
            "spec": {"handler": {"python": "a:b"}, "scheduleLimit": 20} | secret | spec,
        }
    )


def numbers(**values: int) -> JobStatus:
    return replace(NUMBERS, **values)  # type: ignore[arg-type]


def raw(name: str = "listing", *, version: int = 1, uid: str = UID, **parts: Any) -> dict[str, Any]:
    metadata = {"namespace": "shop", "name": name, "uid": uid, "resourceVersion": str(version)}
    return {"metadata": metadata | parts.pop("metadata", {})} | parts
