"""What the worker's two processes say to each other over their socket, and how.

    main → executor    Config, then lists of Task, now and then Cancel, and End at last
    executor → main    Ready or Broken, then lists of Outcome

Tasks and outcomes travel as plain tuples: a pickle names the class of every other object.

Messages are pickles of these classes and of plain values; nothing of the user's is in them.
"""

import pickle
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from stripedjob.runtime.handlers.settings import HandlerSettings
from stripedjob.unit import Unit

if TYPE_CHECKING:
    from stripedjob.pool.types import Lease

LENGTH = struct.Struct("!I")


@dataclass(frozen=True, slots=True)
class Config:
    """What to run and how. `path` is put first on sys.path; `block`: a unit that is not done ends its lease.

    `job`: NAMESPACE/TYPE, for its spans.
    """

    handler: HandlerSettings
    slots: int = 1
    block: bool = False
    path: str = ""
    job: str = ""


class Task(NamedTuple):
    """One lease to work on. `key` is the main process's name for it. A tuple, since thousands are sent a second."""

    key: int
    resource: str
    fence: int
    ids: tuple[int, ...]
    attempts: tuple[int, ...]
    payloads: tuple[str, ...]
    worker_id: int = 0
    traceparents: tuple[str | None, ...] = ()

    def units(self, extend: Callable[[Unit, float], None], cancelled: Callable[[Unit], str]) -> list[Unit]:
        """Return the units as handlers get them; the arguments are what their extend() and `cancelled` call."""
        rows = zip(self.ids, self.attempts, self.payloads, strict=True)
        units = [
            Unit(i, self.resource, self.fence, attempts + 1, payload, extend, self.worker_id, cancelled)
            for i, attempts, payload in rows
        ]
        if self.traceparents:
            traced = zip(units, self.traceparents, strict=True)
            return [replace(unit, traceparent=traceparent) for unit, traceparent in traced]
        return units


def task_row(key: int, lease: "Lease") -> tuple[Any, ...]:
    """Return the fields of a Task, as a plain tuple."""
    return (
        key,
        lease.resource,
        lease.fence,
        lease.ids,
        lease.attempts,
        lease.payloads,
        lease.worker_id,
        lease.traceparents,
    )


@dataclass(frozen=True, slots=True)
class Ready:
    """The function was found."""


@dataclass(frozen=True, slots=True)
class Broken:
    """The function cannot be found or imported, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """Units that are not to be begun, and to be ended where they run: (key of the lease, place in it) → the reason."""

    reasons: dict[tuple[int, int], str]


@dataclass(frozen=True, slots=True)
class End:
    """Nothing more will come: end in good order."""


def packed(message: Any) -> bytes:
    """Return a message as it is sent."""
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return LENGTH.pack(len(body)) + body


def send(sock: socket.socket, message: Any) -> None:
    """Send one message."""
    sock.sendall(packed(message))


def receive(sock: socket.socket) -> Any:
    """Receive one message; None when the other side has hung up."""
    head = _receive_exactly(sock, LENGTH.size)
    body = head and _receive_exactly(sock, LENGTH.unpack(head)[0])
    return pickle.loads(body) if body else None  # noqa: S301 - from our own parent process


def _receive_exactly(sock: socket.socket, size: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < size:
        part = sock.recv(min(size - len(parts), 1 << 20))
        if not part:
            return None
        parts += part
    return bytes(parts)
