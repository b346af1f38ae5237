"""Secrets as they were last read. By name, one by one, never watched: the operator may not list them."""

import asyncio
import hashlib
import json
import time
from base64 import b64decode
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from stripedjob.observe.log import logger
from stripedjob.spec.model import SecretRef, StripedJob
from stripedjob_operator.cluster import ApiError, ApiUnreachableError, Cluster
from stripedjob_operator.observed import Key, Problem

REFRESH_SECONDS = 10.0  # between two reads of one Secret
FORBIDDEN = 403
READS_PER_SECOND_MAX = 5.0  # of all of them
GUESS_COST = 2**10  # of scrypt: 1 MiB and some milliseconds


class SecretError(Exception):
    """A Secret that cannot be used."""

    def __init__(self, problem: Problem) -> None:
        """Take what is wrong."""
        super().__init__(problem.message)
        self.problem = problem


@dataclass(slots=True)
class _Entry:
    version: str = ""
    resource_version: str = ""
    data: dict[str, str] | None = None
    refusal: str = ""  # of the API server: a Role is missing
    read: bool = False
    users: set[Key] = field(default_factory=set)

    @property
    def state(self) -> tuple[str, bool, str]:
        """Which StripedJobs are reconciled when it changes."""
        return self.version, self.data is None, self.refusal


class Secrets:
    """Reads what StripedJobs refer to, again every REFRESH_SECONDS, and tells which StripedJobs a change concerns."""

    def __init__(self, cluster: Cluster, changed: Callable[[Key], None]) -> None:
        """Take whom to ask and whom to tell."""
        self._cluster = cluster
        self._changed = changed
        self._entries: dict[Key, _Entry] = {}

    async def value(self, job: StripedJob, ref: SecretRef) -> str:
        """Return the value of one key; raises SecretError, ApiError, ApiUnreachableError."""
        name = (job.metadata.namespace, ref.name)
        entry = self._entries.setdefault(name, _Entry())
        entry.users.add((job.metadata.namespace, job.metadata.name))
        if not entry.read:
            await self._read(name, entry)
        if entry.refusal:
            raise SecretError(Problem("SecretForbidden", entry.refusal))
        if entry.data is None:
            raise SecretError(
                Problem("SecretNotFound", f'there is no Secret "{ref.name}" in namespace "{name[0]}"; make it')
            )
        try:
            return _decoded(entry.data[ref.key])
        except KeyError:
            keys = ", ".join(sorted(entry.data)) or "none"
            message = f'Secret "{ref.name}" has no key "{ref.key}"; its keys: {keys}'
        except ValueError:
            message = f'key "{ref.key}" of Secret "{ref.name}" is not UTF-8 text'
        raise SecretError(Problem("SecretKeyNotFound", message))

    def known(self, job: StripedJob) -> list[str]:
        """Return the values that a StripedJob refers to, as far as they can be read."""
        found = []
        for ref in (job.spec.pool.secret_ref, job.spec.pool.operator_secret_ref, job.spec.lock.secret_ref):
            entry = self._entries.get((job.metadata.namespace, ref.name)) if ref else None
            if ref and entry and entry.data:
                with suppress(KeyError, ValueError):
                    found.append(_decoded(entry.data[ref.key]))
        return found

    def version(self, namespace: str, names: Iterable[str]) -> str:
        """Return a short text that is another one when one of these Secrets has changed."""
        versions = [(name, self._entries[namespace, name].version) for name in sorted(set(names))]
        return hashlib.sha256(repr(versions).encode()).hexdigest()[:16]

    def forget(self, key: Key) -> None:
        """Forget a StripedJob, and Secrets that none refers to any more."""
        for name, entry in list(self._entries.items()):
            entry.users.discard(key)
            if not entry.users:
                del self._entries[name]

    async def refresh_forever(self) -> None:
        """Read them again and again, as many a second as READS_PER_SECOND_MAX allows."""
        while True:
            began = time.monotonic()
            for name, entry in list(self._entries.items()):
                old = entry.state
                try:
                    await self._read(name, entry)
                except (ApiError, ApiUnreachableError) as error:
                    logger.warning("a Secret cannot be read", extra={"secret": "/".join(name), "error": str(error)})
                if entry.state != old:
                    for key in entry.users:
                        self._changed(key)
                await asyncio.sleep(1 / READS_PER_SECOND_MAX)
            await asyncio.sleep(max(0.1, began + REFRESH_SECONDS - time.monotonic()))

    async def _read(self, name: Key, entry: _Entry) -> None:
        raw, entry.refusal = None, ""
        try:
            raw = await self._cluster.secret(*name)
        except ApiError as error:
            if error.code != FORBIDDEN:
                raise
            entry.refusal = str(error)
        entry.data = None if raw is None else raw.get("data", {})
        if raw is not None and raw["metadata"]["resourceVersion"] != entry.resource_version:
            # A lost one stays as it was: workers that run need not be replaced by ones that could not start.
            entry.version = await asyncio.to_thread(digest, name, entry.data or {})
            entry.resource_version = raw["metadata"]["resourceVersion"]
        entry.read = True


def _decoded(value: str) -> str:
    return b64decode(value, validate=True).decode().strip()


def digest(name: Key, data: dict[str, str]) -> str:
    """Return what changes with the data alone: another label or owner of a Secret must not replace workers.

    Deployments are read by many who may not read Secrets: it is slow to guess by, and too short to confirm a guess.
    """
    text = json.dumps(data, sort_keys=True).encode()
    return hashlib.scrypt(text, salt="/".join(name).encode(), n=GUESS_COST, r=8, p=1, dklen=4).hex()
