"""The page in a cluster: the API server says who somebody is, and what they may see and change.

Who may get the StripedJobs of a namespace sees its jobs; who may update them may act on their units. It is asked with
a bearer token, or with the name that a proxy in front gives where that is trusted. Answers are kept for a while.
"""

import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from stripedjob.spec.model import GROUP, PLURAL
from stripedjob.ui.access import AccessError, Viewer
from stripedjob.ui.security import Rights
from stripedjob_operator.cluster import ApiError, ApiUnreachableError, Cluster

KEPT_SECONDS = 30.0  # for so long what was taken from somebody may still be theirs
KEPT_MAX = 10_000
BEARER = "bearer "
PROXY_USER, PROXY_GROUPS = "X-Forwarded-User", "X-Forwarded-Groups"

T = TypeVar("T")


@dataclass(slots=True)
class Kept(Generic[T]):
    """Answers, each for KEPT_SECONDS."""

    now: Callable[[], float]
    _answers: dict[Any, tuple[float, T]] = field(default_factory=dict)

    async def get(self, key: Any, ask: Callable[[], Awaitable[T]]) -> T:
        """Return the answer that is known, or ask."""
        at, answer = self._answers.get(key, (float("-inf"), None))
        if answer is None or self.now() - at >= KEPT_SECONDS:
            answer = await ask()
            self._answers.pop(key, None)
            self._answers[key] = (self.now(), answer)
            while len(self._answers) > KEPT_MAX:
                del self._answers[next(iter(self._answers))]
        return answer


@dataclass(frozen=True, slots=True)
class User:
    """As the API server, or the proxy, calls somebody. `name` "": nobody."""

    name: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(slots=True)
class ApiAccess:
    """Asks the API server. `allowed`: what anybody may do at most; `trusts_proxy`: its headers say who somebody is."""

    cluster: Cluster
    allowed: Rights
    trusts_proxy: bool = False
    now: Callable[[], float] = time.monotonic
    _users: Kept[User] = field(init=False)
    _judged: Kept[bool] = field(init=False)

    def __post_init__(self) -> None:
        """Know nothing yet."""
        self._users, self._judged = Kept(self.now), Kept(self.now)

    async def viewer(self, headers: Mapping[str, str]) -> Viewer | None:
        """See Access."""
        if self.trusts_proxy and headers.get(PROXY_USER):
            groups = [group.strip() for group in headers.get(PROXY_GROUPS, "").split(",")]
            return ApiViewer(self, User(headers[PROXY_USER], groups=tuple(filter(None, groups))))
        words = headers.get("Authorization", "")
        token = words[len(BEARER) :].strip() if words[: len(BEARER)].lower() == BEARER else ""
        if not token or not (await self.user(token)).name:
            return None
        return ApiViewer(self, token=token)

    async def user(self, token: str) -> User:
        """Tell whose a token is; nobody's where it is not good. Raises AccessError."""
        return await self._users.get(hashlib.sha256(token.encode()).digest(), lambda: self._authenticate(token))

    async def may(self, user: User, verb: str, namespace: str) -> bool:
        """Return whether somebody may do this with all StripedJobs of a namespace. Raises AccessError."""
        return await self._judged.get((user, verb, namespace), lambda: self._authorize(user, verb, namespace))

    async def _authenticate(self, token: str) -> User:
        status = await self._review("authentication.k8s.io", "TokenReview", {"token": token})
        if not status.get("authenticated"):
            return User()
        user = status["user"]
        extra = tuple((name, tuple(values)) for name, values in sorted(user.get("extra", {}).items()))
        return User(user["username"], user.get("uid", ""), tuple(user.get("groups", [])), extra)

    async def _authorize(self, user: User, verb: str, namespace: str) -> bool:
        spec = {
            "user": user.name,
            "uid": user.uid,
            "groups": list(user.groups),
            "extra": {name: list(values) for name, values in user.extra},
            "resourceAttributes": {"group": GROUP, "resource": PLURAL, "verb": verb, "namespace": namespace},
        }
        return bool((await self._review("authorization.k8s.io", "SubjectAccessReview", spec)).get("allowed"))

    async def _review(self, group: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
        try:
            return await self.cluster.review(group, kind, spec)
        except (ApiError, ApiUnreachableError) as error:
            raise AccessError(f"the API server could not be asked who you are and what you may do: {error}") from error


@dataclass(frozen=True, slots=True)
class ApiViewer:
    """Somebody with a token, which is looked at again and again, or with a name that a proxy gave."""

    access: ApiAccess
    user: User = User()
    token: str = field(default="", repr=False)

    async def name(self) -> str:
        """See Viewer."""
        return (await self._user()).name

    async def rights(self, namespace: str) -> Rights | None:
        """See Viewer."""
        user = await self._user()
        if not user.name or not await self.access.may(user, "get", namespace):
            return None
        allowed = self.access.allowed
        return Rights(allowed.actions and await self.access.may(user, "update", namespace), allowed.payloads)

    async def _user(self) -> User:
        return await self.access.user(self.token) if self.token else self.user
