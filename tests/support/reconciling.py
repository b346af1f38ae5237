"""The operator's own loops in this process, before an API server that only keeps what it is told."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from prometheus_client import CollectorRegistry

from stripedjob_operator.cluster import NOT_FOUND, ApiError, Cluster
from stripedjob_operator.observed import Key, Observed, Raw
from stripedjob_operator.operate import reconcile_all
from stripedjob_operator.queue import WorkQueue
from stripedjob_operator.settings import OperatorSettings

if TYPE_CHECKING:
    from kubernetes.aio.client import ApiClient

SECONDS_MAX = 30.0
SETTINGS = OperatorSettings(
    namespaces=(), worker_image="worker", identity="one", lease_namespace="shop", lease_name="lease", port=0
)


class Kept(Cluster):
    """Keeps objects by their paths, and gives each write a higher resourceVersion."""

    def __init__(self) -> None:
        super().__init__(cast("ApiClient", None), CollectorRegistry())
        self.objects: dict[str, Raw] = {}
        self.events: list[Raw] = []
        self.version = 100

    async def _call(
        self,
        method: str,
        path: str,
        query: dict[str, str],  # noqa: ARG002
        body: Raw | None = None,
        content_type: str = "application/merge-patch+json",
    ) -> Raw:
        if path.endswith("/events"):
            self.events.append(body or {})
            return {}
        at, _, part = path.partition("/status")
        if part or (method == "PATCH" and "merge" in content_type):
            return self.keep(at, merged(self.found(at), body or {}))
        if method == "PATCH":
            return self.keep(at, merged(self.objects.get(at, {"status": {}}), body or {}))
        found = self.found(path)
        if method == "DELETE":
            del self.objects[path]
        return found

    def found(self, path: str) -> Raw:
        if path not in self.objects:
            raise ApiError(NOT_FOUND, "not found")
        return self.objects[path]

    def keep(self, path: str, raw: Raw) -> Raw:
        self.version += 1
        raw["metadata"] = {"generation": 1, "uid": path} | raw["metadata"] | {"resourceVersion": str(self.version)}
        self.objects[path] = raw
        return cast("Raw", json.loads(json.dumps(raw)))


def merged(old: Raw, patch: Raw) -> Raw:
    """Return what a merge patch makes of an object."""
    made = dict(old)
    for name, value in patch.items():
        if value is None:
            made.pop(name, None)
        elif isinstance(value, dict):
            made[name] = merged(made.get(name) or {}, value)
        else:
            made[name] = value
    return made


@dataclass
class Reconciling:
    """StripedJobs of the namespace `shop`, each with a Secret of its own name."""

    cluster: Kept = field(default_factory=Kept)
    observed: Observed = field(default_factory=Observed)
    queue: WorkQueue[Key] = field(default_factory=WorkQueue)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Reconciling]:
        loops = asyncio.create_task(
            reconcile_all(self.cluster, SETTINGS, CollectorRegistry(), self.observed, self.queue)
        )
        try:
            yield self
        finally:
            loops.cancel()
            with suppress(asyncio.CancelledError):
                await loops

    def apply(self, name: str, urls: dict[str, str], **spec: Any) -> None:
        """Make a StripedJob; `urls`: postgres, and redis unless the locks are in the pool."""
        data = {key: base64.b64encode(url.encode()).decode() for key, url in urls.items()}
        self.cluster.keep(f"/api/v1/namespaces/shop/secrets/{name}", {"metadata": {"name": name}, "data": data})
        refs = {"pool": {"secretRef": {"name": name, "key": "postgres"}}, "lock": {"backend": "Postgres"}}
        if "redis" in urls:
            refs["lock"] = {"backend": "Redis", "secretRef": {"name": name, "key": "redis"}}
        raw = self.cluster.keep(
            f"/apis/striped.dev/v1alpha1/namespaces/shop/stripedjobs/{name}",
            {
                "metadata": {"namespace": "shop", "name": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
                "spec": {"handler": {"python": "a:b"}, "scheduleLimit": 3} | refs | spec,
            },
        )
        self.observed.job_seen(raw)
        self.queue.add(("shop", name))

    def condition(self, name: str, kind: str) -> dict[str, Any]:
        path = f"/apis/striped.dev/v1alpha1/namespaces/shop/stripedjobs/{name}"
        status = self.cluster.objects[path].get("status", {})
        return next(
            (one for one in status.get("conditions", []) if one["type"] == kind), {"reason": None, "status": None}
        )

    def replicas(self, name: str) -> int | None:
        found = self.cluster.objects.get(f"/apis/apps/v1/namespaces/shop/deployments/{name}-worker")
        return found["spec"]["replicas"] if found else None


async def until(is_so: Callable[[], Any], seconds: float = SECONDS_MAX) -> None:
    """Wait for something that this process will know."""
    async with asyncio.timeout(seconds):
        while not is_so():
            await asyncio.sleep(0.02)
