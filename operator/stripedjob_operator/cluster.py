"""The only user of the Kubernetes API besides kopf's watches: server-side apply, and little else."""

import contextlib
import datetime as dt
import json
import secrets
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration
from prometheus_client import CollectorRegistry, Counter

from stripedjob.spec.model import API_VERSION, KIND, PLURAL
from stripedjob_operator.observed import Key, Raw
from stripedjob_operator.shared import end_if_cancelled

FIELD_MANAGER = "stripedjob-operator"
CALL_SECONDS_MAX = 15
CONNECTIONS_MAX = 16
NOT_FOUND = 404
EVENT_MESSAGE_MAX = 1024  # characters, by the API server
PLURALS = {
    "Deployment": "deployments",
    "ServiceAccount": "serviceaccounts",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "NetworkPolicy": "networkpolicies",
    "Lease": "leases",
    KIND: PLURAL,
}
API_VERSIONS = {
    "Deployment": "apps/v1",
    "ServiceAccount": "v1",
    "PodDisruptionBudget": "policy/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "Lease": "coordination.k8s.io/v1",
}


class ApiError(Exception):
    """The API server refused; `code` is its HTTP status, the message its own."""

    def __init__(self, code: int, message: str) -> None:
        """Take the status and the message."""
        super().__init__(message)
        self.code = code


class ApiUnreachableError(Exception):
    """The API server did not answer."""


class Cluster:
    """A connection to the API server."""

    def __init__(self, client: ApiClient, registry: CollectorRegistry) -> None:
        """Take a client that is logged in."""
        self.client = client
        self._calls = Counter(
            "stripedjob_operator_api_requests", "Requests to the API server.", ["method", "code"], registry=registry
        )

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(cls, registry: CollectorRegistry) -> AsyncIterator["Cluster"]:
        """Log in: with the pod's ServiceAccount, else with the kubeconfig."""
        configuration = Configuration()
        configuration.connection_pool_maxsize = CONNECTIONS_MAX
        configuration.client_session_kwargs = {
            "trust_env": False
        }  # as kopf: else two threads look for a proxy each time
        try:
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        except config.ConfigException:
            await config.load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        async with ApiClient(configuration) as client:
            yield cls(client, registry)

    async def apply(self, manifest: Raw) -> Raw:
        """Make the object so, whoever wrote its fields before; returns it."""
        path = _path(manifest["apiVersion"], manifest["kind"], _key(manifest))
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        return await self._call("PATCH", path, query, manifest, "application/apply-patch+yaml")

    async def get(self, kind: str, key: Key) -> Raw | None:
        """Read an object; None where there is none."""
        return await self._found("GET", _path(API_VERSIONS.get(kind, API_VERSION), kind, key))

    async def delete(self, kind: str, key: Key) -> None:
        """Delete an object, if it is there."""
        await self._found("DELETE", _path(API_VERSIONS[kind], kind, key))

    async def create(self, manifest: Raw) -> Raw:
        """Make a new object; returns it."""
        path = _path(manifest["apiVersion"], manifest["kind"], _key(manifest)).rpartition("/")[0]
        return await self._call("POST", path, {}, manifest)

    async def replace(self, manifest: Raw) -> Raw:
        """Write an object whole, unless it has changed since it was read; returns it."""
        return await self._call("PUT", _path(manifest["apiVersion"], manifest["kind"], _key(manifest)), {}, manifest)

    async def patch_status(self, key: Key, status: Raw) -> Raw | None:
        """Write a StripedJob's status; None where it is gone."""
        path = f"{_path(API_VERSION, KIND, key)}/status"
        return await self._found("PATCH", path, {"fieldManager": FIELD_MANAGER}, {"status": status})

    async def set_finalizers(self, raw: Raw, finalizers: list[str]) -> Raw | None:
        """Write a StripedJob's finalizers, unless it has changed meanwhile."""
        metadata = {"finalizers": finalizers, "resourceVersion": raw["metadata"]["resourceVersion"]}
        path = _path(API_VERSION, KIND, _key(raw))
        return await self._found("PATCH", path, {"fieldManager": FIELD_MANAGER}, {"metadata": metadata})

    async def annotate_pod(self, key: Key, annotations: dict[str, str]) -> None:
        """Write annotations of a pod, if it is there."""
        path = f"/api/v1/namespaces/{key[0]}/pods/{key[1]}"
        await self._found("PATCH", path, {"fieldManager": FIELD_MANAGER}, {"metadata": {"annotations": annotations}})

    async def secret(self, namespace: str, name: str) -> Raw | None:
        """Read a Secret; None where there is none."""
        return await self._found("GET", f"/api/v1/namespaces/{namespace}/secrets/{name}")

    async def review(self, group: str, kind: str, spec: Raw) -> Raw:
        """Ask for a judgement, a TokenReview or a SubjectAccessReview; returns its status."""
        body = {"apiVersion": f"{group}/v1", "kind": kind, "spec": spec}
        return dict((await self._call("POST", f"/apis/{group}/v1/{kind.lower()}s", {}, body))["status"])

    async def event(self, raw: Raw, kind: str, reason: str, message: str) -> None:
        """Tell of what happened to a StripedJob, as an Event: kind Normal or Warning."""
        now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        namespace, name = _key(raw)
        about = {"apiVersion": API_VERSION, "kind": KIND, "namespace": namespace, "name": name}
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"namespace": namespace, "name": f"{name}.{secrets.token_hex(8)}"},
            "involvedObject": about | {"uid": raw["metadata"]["uid"]},
            "type": kind,
            "reason": reason,
            "message": message[:EVENT_MESSAGE_MAX],
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "source": {"component": FIELD_MANAGER},
        }
        await self._call("POST", f"/api/v1/namespaces/{namespace}/events", {}, body)

    async def _found(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        body: Raw | None = None,
    ) -> Raw | None:
        try:
            return await self._call(method, path, query or {}, body)
        except ApiError as error:
            if error.code == NOT_FOUND:
                return None
            raise

    async def _call(
        self,
        method: str,
        path: str,
        query: dict[str, str],
        body: Raw | None = None,
        content_type: str = "application/merge-patch+json",
    ) -> Raw:
        headers: dict[str, Any] = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = content_type if method == "PATCH" else "application/json"
        configuration = self.client.configuration
        url = configuration.host + path + (f"?{urlencode(query)}" if query else "")
        await self.client.update_params_for_auth(headers, [], ["BearerToken"], url, method, body, request_auth=None)
        try:
            response = await self.client.rest_client.request(  # type: ignore[no-untyped-call]
                method, url, headers=headers, body=body, _request_timeout=CALL_SECONDS_MAX
            )
            data = await response.read()
        except (aiohttp.ClientError, OSError) as error:
            end_if_cancelled()
            self._calls.labels(method, "none").inc()
            raise ApiUnreachableError(f"the API server does not answer: {error or type(error).__name__}") from error
        self._calls.labels(method, str(response.status)).inc()
        if response.status >= 400:  # noqa: PLR2004 - HTTP: from here on an error
            raise ApiError(response.status, _message(data, response.reason))
        return dict(json.loads(data))


def _message(data: bytes, reason: str) -> str:
    try:
        return str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        return reason


def _key(raw: Raw) -> Key:
    return raw["metadata"]["namespace"], raw["metadata"]["name"]


def _path(api_version: str, kind: str, key: Key) -> str:
    root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
    return f"{root}/namespaces/{key[0]}/{PLURALS[kind]}/{key[1]}"
