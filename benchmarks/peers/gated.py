"""A process of a neighbour, as seen by the benchmark: commands to its stdin, a word from its stdout for each.

Called by peer.py. What it writes to its stderr goes to a file, whose end is told when it fails.
"""

import os
import re
import select
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from peers.fetch import MissingError

PATIENCE_SECONDS = 60.0
TAIL_LETTERS = 600
ERROR = re.compile(r"^[\w.]*(?:[Ee]rror|errors\.\w+): .*$", re.MULTILINE)  # as Python and Node end, before any details


class Gated:
    """One process. It ends when its stdin does, so with this process at the latest."""

    def __init__(self, command: list[str], env: dict[str, str], log: Path) -> None:
        """Start it."""
        self._log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                env={**os.environ, **env},
                start_new_session=True,
            )

    def say(self, line: str) -> None:
        """Send it a command."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def hear(self, seconds: float = PATIENCE_SECONDS) -> str:
        """Wait for a line; raises MissingError where none comes."""
        assert self.process.stdout is not None
        out, deadline, line = self.process.stdout.fileno(), time.monotonic() + seconds, b""
        while not line.endswith(b"\n"):
            readable, _, _ = select.select([out], [], [], max(0.0, deadline - time.monotonic()))
            more = os.read(out, 1) if readable else b""
            if not more:
                raise self._failure("ended" if readable else f"said nothing in {seconds:.0f} s")
            line += more
        return line.decode().strip()

    def check(self) -> None:
        """Raise MissingError where it has ended by itself."""
        if self.process.poll() is not None:
            raise self._failure("ended")

    def _failure(self, what: str) -> MissingError:
        log = self._log.read_text(errors="replace").strip()
        errors = ERROR.findall(log)
        return MissingError(f"{what}: {errors[-1] if errors else log[-TAIL_LETTERS:]}")

    def end(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()
