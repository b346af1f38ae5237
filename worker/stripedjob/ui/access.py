"""Who may see and change what: everybody the same on one machine; in a cluster, as its API server says.

A view is read once for all; what of it a viewer may see is decided here, each time before it is shown.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from stripedjob.ui.security import Rights
from stripedjob.ui.views import FindView, JobsView, JobView, View


class AccessError(Exception):
    """Nobody can be asked now who may see what; the words say why."""


class Viewer(Protocol):
    """Somebody who looks."""

    async def rights(self, namespace: str) -> Rights | None:
        """Return what they may do with the jobs of a namespace; None: not even see them. Raises AccessError."""
        ...

    async def name(self) -> str:
        """Return what they are called, for what they do. Raises AccessError."""
        ...


class Access(Protocol):
    """Knows viewers."""

    async def viewer(self, headers: Mapping[str, str]) -> Viewer | None:
        """Tell who sends a request with these headers; None where that is not known. Raises AccessError."""
        ...


@dataclass(frozen=True, slots=True)
class Everybody:
    """All who can connect, with the same rights and one name."""

    allowed: Rights
    called: str = "somebody at the page"

    async def viewer(self, _headers: Mapping[str, str]) -> Viewer | None:
        """See Access."""
        return self

    async def rights(self, _namespace: str) -> Rights | None:
        """See Viewer."""
        return self.allowed

    async def name(self) -> str:
        """See Viewer."""
        return self.called


@dataclass(frozen=True, slots=True)
class Seen:
    """What of a view somebody may see, and their rights to it. Viewers with one `key` see the same of one look."""

    data: Any
    rights: Rights
    key: frozenset[str] = frozenset()


async def seen_by(viewer: Viewer, view: View, data: Any) -> Seen:
    """Leave of what was read what the viewer may see: of a list their jobs, of anything else all of it or nothing."""
    if data is None:
        return Seen(None, Rights())
    if not isinstance(view, JobsView | FindView):
        rights = await viewer.rights(namespace_of(view, data))
        return Seen(None, Rights()) if rights is None else Seen(data, rights)
    parts = [*data["jobs"], *data.get("begin", []), *([data["unit"]] if data.get("unit") else [])]
    found = {name: await viewer.rights(name) for name in sorted({part["namespace"] for part in parts})}
    granted = {name: rights for name, rights in found.items() if rights is not None}
    left: dict[str, Any] = {"jobs": [job for job in data["jobs"] if job["namespace"] in granted]}
    if "begin" in data:
        left["begin"] = [one for one in data["begin"] if one["namespace"] in granted]
    if data.get("unit") and data["unit"]["namespace"] not in granted:
        left["unit"] = None
    rights = Rights(any(one.actions for one in granted.values()), any(one.payloads for one in granted.values()))
    return Seen(data | left, rights, frozenset(granted))


def namespace_of(view: View, data: Any) -> str:
    """Return the namespace of the job that a view is of."""
    if isinstance(view, JobView):
        return str(data["status"]["namespace"])
    return str(data["namespace"] if isinstance(data, dict) else data.namespace)
