"""The protocol of a lock backend, and its settings. redis.py and postgres.py implement it; choose.py chooses."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, NamedTuple, Protocol, Self

from stripedjob.locks.errors import LockConfigError

RESOURCES_PER_CALL_MAX = 10_000  # a batch is one script or statement, and others wait for it
CONNECT_SECONDS_MAX = 5.0
CALL_SECONDS_MAX = 6.0  # connecting and retries included: well below any sensible lease


@dataclass(frozen=True, kw_only=True)
class LockSettings:
    """Which locks, and where; (namespace, job_type) names the job whose resources are locked."""

    backend: Literal["Redis", "Postgres"]
    url: str = field(repr=False)  # it may hold a password
    namespace: str
    job_type: str
    prefix: str = "stripedjob"  # Redis: what all keys of this installation begin with
    schema: str = "striped"  # Postgres: where the table `lock` is

    def __post_init__(self) -> None:
        """Raise LockConfigError where a name is missing."""
        for name in ("url", "namespace", "job_type", "prefix", "schema"):
            if not getattr(self, name):
                raise LockConfigError(f"lock setting {name} is empty: give it a value")


class Held(NamedTuple):
    """A lock that is held: under which token, and how long it still lasts; None where it has no expiry."""

    token: str
    ms_left: int | None


class LockBackend(Protocol):
    """Locks of one job's resources. Every call is one round trip for the whole batch, and safe to repeat.

    The resources of a batch are distinct. `tokens[i]` stands for the lease of `resources[i]`
    (`worker_id:fence`); a lock belongs to its token, not to the process. Raises LockUnavailable,
    LockConfigError.
    """

    async def acquire(self, resources: Sequence[str], tokens: Sequence[str], ttl_ms: int) -> list[int]:
        """Take what is free, for `ttl_ms`; return per resource 0 if granted, else the holder's ms left (> 0).

        A lock that is held under the same token is granted again and its time begins again: a call whose
        reply was lost can be repeated. Under another token it is refused, within one process too. A holder
        that set no expiry (an outside party may) counts as one of `ttl_ms`.
        """
        ...

    async def renew(self, resources: Sequence[str], tokens: Sequence[str], ttl_ms: int) -> list[bool]:
        """Extend own locks; one that has vanished is taken again if it is free. False: somebody else has it.

        A renewal that overtakes the release of the same token would take the lock again: wait for it first.
        """
        return [wait_ms == 0 for wait_ms in await self.acquire(resources, tokens, ttl_ms)]

    async def release(self, resources: Sequence[str], tokens: Sequence[str]) -> list[bool]:
        """Give back what is held under these tokens, nothing else; False: there was nothing to give back."""
        ...

    async def look(self, resource: str) -> "Held | None":
        """Say who holds a resource's lock; None where nobody does."""
        ...

    async def ping(self) -> None:
        """Check that the backend can be reached, used and understood: for start-up and readiness."""
        ...

    async def flush(self) -> int:
        """Remove all locks of this job, whoever holds them; return how many. Other prefixes survive."""
        ...

    async def close(self) -> None:
        """Close the connections; locks that are held stay held until they expire."""
        ...

    async def __aenter__(self) -> Self:
        """Connect with the first call, not here: a worker may start while its backend is down."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        await self.close()


def check_batch(resources: Sequence[str], tokens: Sequence[str], ttl_ms: int = 1) -> None:
    """Raise ValueError for a batch that makes no sense: the caller's mistake, not the backend's state."""
    if len(resources) != len(tokens) or len(set(resources)) != len(resources):
        raise ValueError(f"{len(resources)} resources with {len(tokens)} tokens: they must be distinct and match")
    if len(resources) > RESOURCES_PER_CALL_MAX:
        raise ValueError(f"{len(resources)} resources in one call: at most {RESOURCES_PER_CALL_MAX}")
    if ttl_ms < 1:
        raise ValueError(f"ttl_ms is {ttl_ms}: a lock lasts at least 1 ms")
