"""A real pseudo-terminal with a program on it, and what a person sees: pyte reads its bytes as a terminal does."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import termios
import threading
import time
from typing import TYPE_CHECKING, Any, Self

import pyte

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HISTORY_LINES = 10_000
PATIENCE_SECONDS = 180.0


class Terminal:
    """Runs a command on a terminal of this size; `with Terminal(…) as terminal`, which ends what is left of it."""

    def __init__(self, command: Sequence[str], columns: int, env: dict[str, str] | None = None, rows: int = 24) -> None:
        self.screen = pyte.HistoryScreen(columns, rows, history=HISTORY_LINES, ratio=0.5)
        self._stream = pyte.ByteStream(self.screen)
        self._lock = threading.Lock()
        self.raw = b""
        self._ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        variables = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *command],  # so that Ctrl-C reaches it
            env={**variables, "TERM": "xterm-256color", **(env or {})},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()
        self._reader.join(PATIENCE_SECONDS)
        os.close(self._ours)

    def type(self, keys: bytes) -> None:
        """Press keys; b"\\x03" is Ctrl-C."""
        os.write(self._ours, keys)

    def shown(self) -> list[str]:
        """Return the lines on the screen now, without those that are empty."""
        with self._lock:
            return [line.rstrip() for line in self.screen.display if line.strip()]

    def everything(self) -> list[str]:
        """Return those that have scrolled away before, too."""
        with self._lock:
            width = self.screen.columns
            gone = ["".join(line[x].data for x in range(width)).rstrip() for line in self.screen.history.top]
        return [line for line in gone if line] + self.shown()

    def await_(self, what: str, is_so: Callable[[], Any]) -> Any:
        """Wait until something is so; what the terminal shows is in the error."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not (found := is_so()):
            assert time.monotonic() < end, f"{what}: not in time, but this:\n" + "\n".join(self.shown())
            time.sleep(0.02)
        return found

    def await_line(self, part: str) -> str:
        """Wait until a line with this in it is shown."""
        return str(self.await_(part, lambda: next((line for line in self.shown() if part in line), None)))

    def await_end(self) -> int:
        """Wait until the program has ended by itself; gives its exit code."""
        code = self.process.wait(PATIENCE_SECONDS)
        self._reader.join(PATIENCE_SECONDS)
        return code

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._ours, 65536)
            except OSError:  # the last program on it has gone
                return
            if not data:
                return
            with self._lock:
                self.raw += data
                self._stream.feed(data)
