"""One operator works at a time: the one that holds the Lease. The others wait, without a watch of their own."""

import asyncio
import datetime as dt
import json
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.aio.leaderelection.resourcelock.baselock import BaseLock

from stripedjob.observe.log import logger
from stripedjob_operator.cluster import NOT_FOUND, ApiError, ApiUnreachableError, Cluster
from stripedjob_operator.observed import Raw

Work = Callable[[], Coroutine[Any, Any, None]]
LEASE_SECONDS = 10  # after the last renewal of a leader that died, another may follow
RENEW_SECONDS = 7  # a leader that cannot renew for so long ends
RETRY_SECONDS = 2


class _Lock(BaseLock):
    """The Lease; an API server that does not answer is a try that failed, and no reason to end."""

    def __init__(self, cluster: Cluster, name: str, namespace: str, identity: str) -> None:
        super().__init__(name, namespace, identity)
        self.cluster = cluster
        self.lease: Raw = {}

    async def get(self, name: str, namespace: str) -> tuple[bool, LeaderElectionRecord] | tuple[bool, Exception]:
        try:
            found = await self.cluster.get("Lease", (namespace, name))
        except (ApiError, ApiUnreachableError) as error:
            return False, ApiException(status=0, reason=str(error))
        if found is None:
            return False, ApiException(status=NOT_FOUND, body=json.dumps({"code": NOT_FOUND}))
        self.lease, spec = found, found.get("spec", {})
        duration = spec.get("leaseDurationSeconds")
        times = (spec.get("acquireTime"), spec.get("renewTime"))
        return True, LeaderElectionRecord(spec.get("holderIdentity") or None, duration and str(duration), *times)

    async def create(self, name: str, namespace: str, election_record: LeaderElectionRecord) -> bool:
        return await self._write({}, name, namespace, election_record)

    async def update(self, name: str, namespace: str, updated_record: LeaderElectionRecord) -> bool:
        return await self._write(self.lease, name, namespace, updated_record)

    async def release(self) -> None:
        """Leave the Lease to whoever wants it, at once. Invariant: nothing of the work goes on."""
        found, record = await self.get(self.name, self.namespace)
        if found and isinstance(record, LeaderElectionRecord) and record.holder_identity == self.identity:
            record.holder_identity = ""
            await self._write(self.lease, self.name, self.namespace, record)

    async def _write(self, lease: Raw, name: str, namespace: str, record: LeaderElectionRecord) -> bool:
        spec = {
            "holderIdentity": record.holder_identity,
            "leaseDurationSeconds": LEASE_SECONDS,
            "acquireTime": _rfc3339(record.acquire_time),
            "renewTime": _rfc3339(record.renew_time),
        }
        metadata = lease.get("metadata", {"name": name, "namespace": namespace})
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
        try:  # with the resourceVersion that was read: of two that write, one is refused
            await (self.cluster.replace(body) if lease else self.cluster.create(body))
        except (ApiError, ApiUnreachableError) as error:
            logger.warning("the Lease cannot be written", extra={"error": str(error)})
            return False
        return True


def _rfc3339(text: str | None) -> str | None:
    """Turn the election's times, local and without a zone, into the API server's; its own stay as they are."""
    if text is None or text.endswith("Z"):
        return text
    return dt.datetime.fromisoformat(text).astimezone(dt.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


async def lead(cluster: Cluster, name: str, namespace: str, identity: str, work: Work) -> bool:
    """Wait for the Lease, then work, and raise what that does. False: the Lease was lost, and the work is cancelled."""
    logging.getLogger("kubernetes.aio.leaderelection").setLevel(logging.CRITICAL)  # it logs a traceback a try
    began: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def start() -> None:
        logger.info("leading", extra={"identity": identity})
        began.set_result(None)

    async def stop() -> None:
        logger.error("the Lease was lost", extra={"identity": identity})

    lock = _Lock(cluster, name, namespace, identity)
    election = asyncio.create_task(
        LeaderElection(Config(lock, LEASE_SECONDS, RENEW_SECONDS, RETRY_SECONDS, start, stop)).run()
    )
    await asyncio.wait({began, election}, return_when=asyncio.FIRST_COMPLETED)
    if not began.done():
        await election
        return False
    task = asyncio.create_task(work())
    await asyncio.wait({task, election}, return_when=asyncio.FIRST_COMPLETED)
    election.cancel()
    await asyncio.gather(election, return_exceptions=True)
    if not task.done():
        task.cancel()
        return False
    await lock.release()
    await task
    return True
