"""A job's processes on this machine, its workers and its delegator: start, read, end. The supervisor owns them.

A process gets its settings through its environment, as in a pod, and ends by itself when this process has gone.
"""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from stripedjob.local.output import LogLine, Output, Stream, hear
from stripedjob.observe.log import LOCK_AWAY, LOCK_BACK

Role = Literal["worker", "delegator"]  # the command that it is
LAST_WORDS_SECONDS = 2.0  # for the rest of a pipe after the end; longer only where a grandchild has it still


@dataclass(slots=True)
class Process:
    """One process. `name` is how it registers; `ending`: it was told to end; `last_words`: with which it ended itself.

    Its log says so in a record with its exit code, which no handler's line has. `lock_away`: why the lock backend does
    not answer it, or "".
    """

    role: Role
    name: str
    process: "subprocess.Popen[bytes]"
    started_at: float
    ending: bool = False
    last_words: str = ""
    lock_away: str = ""
    readers: list[threading.Thread] = field(default_factory=list)

    def note(self, said: LogLine) -> None:
        """Take note of what it says of its own end, and of the lock backend."""
        event = said.record["event"]
        if "exit_code" in said.record:
            self.last_words = str(event)
        elif event == LOCK_AWAY:
            self.lock_away = str(said.record.get("error"))
        elif event == LOCK_BACK:
            self.lock_away = ""


@dataclass(slots=True)
class ProcessGroup:
    """All processes of one job. `env` is what each gets beside this process's environment."""

    env: Mapping[str, str]
    members: list[Process] = field(default_factory=list)
    heard: Output = field(default_factory=Output)
    _started: int = 0

    def start(self, role: Role = "worker") -> Process:
        """Start one more."""
        self._started += 1
        name = f"local-{os.getpid()}-{self._started}"
        ours = {"STRIPEDJOB_WORKER": name, "STRIPEDJOB_PARENT": str(os.getpid()), "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "stripedjob", role],
            env={**os.environ, **self.env, **ours},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the supervisor, which then tells the workers
        )
        member = Process(role, name, process, time.monotonic())
        self._listen(member, "stdout", process.stdout)
        self._listen(member, "stderr", process.stderr)
        self.members.append(member)
        return member

    def end(self, member: Process) -> None:
        """Tell a process to drain, once: it would take a second time for haste."""
        if not member.ending:
            member.ending = True
            with contextlib.suppress(ProcessLookupError):
                member.process.terminate()

    def end_all(self) -> None:
        """Tell all to drain."""
        for member in list(self.members):
            self.end(member)

    def kill(self) -> None:
        """End all at once. Nothing is lost: their leases run out."""
        for member in self.members:
            with contextlib.suppress(ProcessLookupError):
                member.process.kill()
            member.process.wait()

    def reap(self) -> list[Process]:
        """Take out those that have ended, with their last words."""
        ended = [member for member in self.members if member.process.poll() is not None]
        self.members = [member for member in self.members if member not in ended]
        for member in ended:
            for reader in member.readers:
                reader.join(LAST_WORDS_SECONDS)
        return ended

    def at_work(self, role: Role = "worker") -> list[Process]:
        """Return those that were not told to end."""
        return [member for member in self.members if member.role == role and not member.ending]

    @property
    def lock_away(self) -> str:
        """Why the lock backend does not answer its workers, or ""."""
        return next((member.lock_away for member in self.members if member.lock_away), "")

    def _listen(self, member: Process, stream: Stream, pipe: Any) -> None:
        reader = threading.Thread(
            target=hear, args=(member.name, stream, pipe, self.heard, member.note), daemon=True, name=member.name
        )
        reader.start()
        member.readers.append(reader)
