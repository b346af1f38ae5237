"""Locks in Redis (6.2 or later) or Valkey: one key a resource, one script a batch.

Called through backend.open_lock; redis_client.py makes the client, redis_errors.py translates what it raises.

A key is `{PREFIX:NAMESPACE/JOB_TYPE}:RESOURCE`, its value the token, its expiry the lock's. The part in
braces is the hash tag: the keys of one job share a slot, so that a batch is one script in a Redis Cluster
too. In it, whatever is neither a letter, a digit, nor one of `_.-~` is percent-encoded (in PREFIX, `:` and
`/` stay); RESOURCE is as it is.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import cast
from urllib.parse import quote

from redis.exceptions import (
    NoPermissionError,
    NoScriptError,
    RedisClusterException,
    RedisError,
)

from stripedjob.locks.backend import (
    CALL_SECONDS_MAX,
    Held,
    LockBackend,
    LockSettings,
    check_batch,
)
from stripedjob.locks.errors import LockConfigError, LockUnavailable
from stripedjob.locks.redis_client import CALLS_AT_ONCE_MAX, connect
from stripedjob.locks.redis_errors import NOT_WRITABLE, OTHERWISE, translated
from stripedjob.urls import shown

VERSION_MIN = (6, 2)
FLUSH_SECONDS_MAX = 300.0
FLUSH_KEYS_PER_CALL = 1_000
GONE = -2  # what PTTL says of a key that is not there


@dataclass(frozen=True)
class Script:
    """A Lua script and the name under which the server keeps it."""

    text: str
    sha: str

    @classmethod
    def load(cls, name: str) -> "Script":
        """Read NAME.lua beside this module."""
        text = files(__package__).joinpath(f"{name}.lua").read_text(encoding="utf-8")
        return cls(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


ACQUIRE = Script.load("acquire")
RELEASE = Script.load("release")


def hash_tag(prefix: str, namespace: str, job_type: str) -> str:
    """Return what the keys of a job begin with, braces included; no two jobs have the same."""
    return f"{{{quote(prefix, safe=':/')}:{quote(namespace, safe='')}/{quote(job_type, safe='')}}}"


class RedisLock(LockBackend):
    """The locks of one job in Redis, Sentinel or Cluster."""

    def __init__(self, settings: LockSettings) -> None:
        """Take the settings; the first call connects."""
        self._key = f"{hash_tag(settings.prefix, settings.namespace, settings.job_type)}:"
        self._where = shown(settings.url)
        self._client, self._sentinels = connect(settings.url)
        self._calls = asyncio.Semaphore(CALLS_AT_ONCE_MAX)

    async def acquire(self, resources: Sequence[str], tokens: Sequence[str], ttl_ms: int) -> list[int]:
        """See LockBackend."""
        check_batch(resources, tokens, ttl_ms)
        return await self._run(ACQUIRE, resources, [str(ttl_ms), *tokens])

    async def release(self, resources: Sequence[str], tokens: Sequence[str]) -> list[bool]:
        """See LockBackend."""
        check_batch(resources, tokens)
        return [bool(deleted) for deleted in await self._run(RELEASE, resources, tokens)]

    async def look(self, resource: str) -> Held | None:
        """See LockBackend; a token that is no text, an outside party's, is given as far as it is."""
        key = self._key + resource
        async with self._edge(CALL_SECONDS_MAX):
            token, ms_left = await self._client.get(key), await self._client.pttl(key)
        if token is None or ms_left == GONE:
            return None
        words = token if isinstance(token, str) else token.decode(errors="replace")
        return Held(words, ms_left if ms_left >= 0 else None)

    async def ping(self) -> None:
        """See LockBackend; refuses servers older than VERSION_MIN."""
        async with self._edge(CALL_SECONDS_MAX):
            await self._client.ping()
            try:
                version = str((await self._client.info("server"))["redis_version"])
            except NoPermissionError:  # a user that may not ask may still lock
                return
        if tuple(int(part) for part in version.split(".")[:2]) < VERSION_MIN:
            least = ".".join(map(str, VERSION_MIN))
            raise LockConfigError(f"{self._where} is Redis {version}: use Redis {least} or later, or Valkey")

    async def flush(self) -> int:
        """See LockBackend; SCAN, so that the server goes on serving others."""
        flushed = 0
        async with self._edge(FLUSH_SECONDS_MAX):
            found: list[bytes] = []
            async for key in self._client.scan_iter(match=f"{self._key}*", count=FLUSH_KEYS_PER_CALL):
                found.append(key)
                if len(found) == FLUSH_KEYS_PER_CALL:
                    flushed += await self._client.unlink(*found)
                    found.clear()
            if found:
                flushed += await self._client.unlink(*found)
        return flushed

    async def close(self) -> None:
        """See LockBackend."""
        for client in (self._client, *self._sentinels):
            await client.aclose()

    async def _run(self, script: Script, resources: Sequence[str], arguments: Sequence[str]) -> list[int]:
        """Call the script by its name; where the server does not know it (any more), by its text, once."""
        if not resources:
            return []
        keys = [self._key + resource for resource in resources]
        async with self._edge(CALL_SECONDS_MAX):
            try:
                reply = await self._client.evalsha(script.sha, len(keys), *keys, *arguments)
            except NoScriptError:
                reply = await self._client.eval(script.text, len(keys), *keys, *arguments)
        return cast("list[int]", reply)

    @asynccontextmanager
    async def _edge(self, seconds_max: float) -> AsyncIterator[None]:
        """Bound what stands inside in time and in number, and turn redis' errors into ours."""
        try:
            async with asyncio.timeout(seconds_max), self._calls:
                yield
        except TimeoutError as error:
            raise LockUnavailable(f"{self._where} did not answer in {seconds_max:.0f} s: {OTHERWISE}") from error
        except (RedisError, RedisClusterException) as error:
            if NOT_WRITABLE in str(error):  # a demoted primary: connect again, perhaps to its successor
                await self._client.aclose()
            raise translated(error, self._where) from error
