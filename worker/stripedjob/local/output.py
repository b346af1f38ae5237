"""What a processes's processes write, line by line: read for as long as a process lives, whatever it writes.

A process whose pipe is full stands still, and with it its leases. So a reading thread never ends before the pipe does,
waits for nobody, and keeps a bounded amount of what nobody has heard yet.
"""

import json
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, Literal

LINE_BYTES_MAX = 1 << 20  # of a longer one, the beginning is kept
UNHEARD_BYTES_MAX = 64 << 20
RECORD = {"event", "level", "timestamp"}  # what a record of our log has
Stream = Literal["stdout", "stderr"]


@dataclass(frozen=True, slots=True)
class LogLine:
    """A record of a process's log."""

    worker: str
    record: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Printed:
    """A line that is no record: what a handler prints."""

    worker: str
    stream: Stream
    line: str


@dataclass(slots=True)
class Output:
    """What was read and not yet taken, in order: up to UNHEARD_BYTES_MAX; what comes on top is left out."""

    _waiting: "deque[tuple[int, LogLine | Printed]]" = field(default_factory=deque)
    _bytes: int = 0
    _left_out: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, size: int, what: LogLine | Printed) -> None:
        """Add one, of so many bytes; never waits."""
        with self._lock:
            if self._bytes + size > UNHEARD_BYTES_MAX:
                self._left_out += 1
                return
            self._bytes += size
            self._waiting.append((size, what))

    def take(self) -> tuple[list[LogLine | Printed], int]:
        """Return everything, and how many lines were left out behind it."""
        with self._lock:
            taken, left_out = [what for _, what in self._waiting], self._left_out
            self._waiting.clear()
            self._bytes = self._left_out = 0
        return taken, left_out


def hear(worker: str, stream: Stream, pipe: IO[bytes], heard: Output, note: Callable[[LogLine], None]) -> None:
    """Read a pipe to its end; `note` gets each record as well, at once."""
    with pipe:
        for line in _lines(pipe):
            what = understood(worker, stream, line)
            if isinstance(what, LogLine):
                note(what)
            heard.put(len(line), what)


def understood(worker: str, stream: Stream, line: bytes) -> LogLine | Printed:
    """Tell a record of our log from any other line."""
    if stream == "stderr" and line.startswith(b"{"):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = {}
        if isinstance(record, dict) and record.keys() >= RECORD:
            return LogLine(worker, record)
    return Printed(worker, stream, line.decode(errors="replace").rstrip("\r\n"))


def _lines(pipe: IO[bytes]) -> Iterator[bytes]:
    while line := pipe.readline(LINE_BYTES_MAX):
        rest = line
        while len(rest) == LINE_BYTES_MAX and not rest.endswith(b"\n"):
            rest = pipe.readline(LINE_BYTES_MAX)
        yield line if line is rest else line + b"..."
