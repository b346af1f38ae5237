"""A few bytes of memory that a worker's two processes share: who runs what, since when, and until when it may.

The executor writes a slot before each unit and clears it after, and writes when the handler extends its time; the main
process reads it to end what runs too long, and to know what ran when the executor died. The main process writes the
deadline, after which the executor starts no unit, and the time at which it must have ended, which the executor keeps by
itself where the main process is stopped. Neither ever waits for the other, and a message a unit would cost more than
many a handler. All times are those of clock.py, in seconds.
"""

import contextlib
import math
import mmap
import os
import signal
import struct
from dataclasses import dataclass

HEADER = struct.Struct("ddd")  # the deadline, the time of the end, and 1 where the executor ended itself for that
DEADLINE, KILL_AT, OVERDUE = range(3)
FIELD = struct.Struct("d")
SLOT = struct.Struct("qqd")  # key of the lease + 1, index of the unit, time of its start; 0: nothing runs
GROUP = struct.Struct("q")  # the process group of a slot's command; 0: none
EXTENSION = struct.Struct("qqd")  # as a slot's first two, and the time until when that unit may run


@dataclass(frozen=True, slots=True)
class Running:
    """One unit that runs: its lease's key, its place in the lease, and the time when it was started.

    `until`: when its time ends, where its handler has extended it.
    """

    key: int
    index: int
    since: float
    until: float | None = None


class SharedState:
    """The shared memory; `fd` goes to the executor, which opens it with the same number of slots."""

    def __init__(self, fd: int, slots: int) -> None:
        """Map the file `fd`, made by `create`."""
        self.fd = fd
        self._slots = slots
        self._groups = HEADER.size + slots * SLOT.size
        self._extensions = self._groups + slots * GROUP.size
        self._memory: mmap.mmap | bytearray = mmap.mmap(fd, self._extensions + slots * EXTENSION.size)

    @classmethod
    def create(cls, slots: int) -> "SharedState":
        """Make an empty shared_state."""
        fd = os.memfd_create("stripedjob-shared_state") if hasattr(os, "memfd_create") else _unnamed_file()
        os.ftruncate(fd, HEADER.size + slots * (SLOT.size + GROUP.size + EXTENSION.size))
        shared_state = cls(fd, slots)
        shared_state.kill_at = math.inf
        return shared_state

    def close(self) -> None:
        """Let go of the memory."""
        if isinstance(self._memory, mmap.mmap):
            self._memory.close()
        os.close(self.fd)

    def detach(self) -> None:
        """Go on with a copy: what a forked child of the executor writes is seen by nobody."""
        self._memory = bytearray(self._memory)

    @property
    def deadline(self) -> float:
        """No unit starts after this time: the leases may have passed to others. 0: start nothing more."""
        return self._get(DEADLINE)

    @deadline.setter
    def deadline(self, moment: float) -> None:
        self._set(DEADLINE, moment)

    @property
    def kill_at(self) -> float:
        """What still runs at this time is ended, and nobody is blamed."""
        return self._get(KILL_AT)

    @kill_at.setter
    def kill_at(self, moment: float) -> None:
        self._set(KILL_AT, moment)

    @property
    def is_overdue(self) -> bool:
        """Whether the executor ended itself, since its main process did not do so at `kill_at`."""
        return self._get(OVERDUE) != 0

    @is_overdue.setter
    def is_overdue(self, is_so: bool) -> None:
        self._set(OVERDUE, float(is_so))

    def start(self, slot: int, key: int, index: int, now: float) -> None:
        """Say that the unit at `index` of lease `key` runs in this slot from now on."""
        SLOT.pack_into(self._memory, HEADER.size + slot * SLOT.size, key + 1, index, now)

    def clear(self, slot: int) -> None:
        """Say that nothing runs in this slot."""
        SLOT.pack_into(self._memory, HEADER.size + slot * SLOT.size, 0, 0, 0.0)

    def extend(self, slot: int, key: int, index: int, until: float) -> None:
        """Say until when the unit at `index` of lease `key` may run; it is named, since another may run by now."""
        EXTENSION.pack_into(self._memory, self._extensions + slot * EXTENSION.size, key + 1, index, until)

    def set_group(self, slot: int, group: int) -> None:
        """Say which process group the command of this slot is; 0: it has ended."""
        GROUP.pack_into(self._memory, self._groups + slot * GROUP.size, group)

    def kill_groups(self) -> None:
        """End the commands of all slots."""
        for slot in range(self._slots):
            (group,) = GROUP.unpack_from(self._memory, self._groups + slot * GROUP.size)
            if group:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(group, signal.SIGKILL)
                self.set_group(slot, 0)

    def running(self) -> list[Running]:
        """All that runs now."""
        found = []
        for slot in range(self._slots):
            key, index, since = SLOT.unpack_from(self._memory, HEADER.size + slot * SLOT.size)
            if key:
                *unit, until = EXTENSION.unpack_from(self._memory, self._extensions + slot * EXTENSION.size)
                found.append(Running(key - 1, index, since, until if unit == [key, index] else None))
        return found

    def _get(self, field: int) -> float:
        return float(FIELD.unpack_from(self._memory, field * FIELD.size)[0])

    def _set(self, field: int, value: float) -> None:
        FIELD.pack_into(self._memory, field * FIELD.size, value)


def _unnamed_file() -> int:
    """Make a file without a name, where there is no memfd (macOS)."""
    import tempfile  # noqa: PLC0415 - not for the executor, which should be small

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
