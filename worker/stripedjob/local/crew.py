"""A job's processes on this machine, its workers and its delegator: start, hear, end. The supervisor owns one crew.

A process gets its settings through its environment, as in a pod, and ends by itself when this process has gone.
"""

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["worker", "delegator"]  # the command that it is


@dataclass(slots=True)
class Member:
    """One process. `name` is how it registers; `ending`: it was told to end."""

    role: Role
    name: str
    process: "subprocess.Popen[str]"
    started_at: float
    ending: bool = False
    last_error: str = ""


@dataclass(frozen=True, slots=True)
class Said:
    """One line that a process wrote: a log record, or plain text under `event`."""

    worker: str
    record: Mapping[str, Any]


@dataclass(slots=True)
class Crew:
    """All processes of one job. `env` is what each gets beside this process's environment."""

    env: Mapping[str, str]
    members: list[Member] = field(default_factory=list)
    said: "queue.SimpleQueue[Said]" = field(default_factory=queue.SimpleQueue)
    _started: int = 0

    def start(self, role: Role = "worker") -> Member:
        """Start one more."""
        self._started += 1
        name = f"local-{os.getpid()}-{self._started}"
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "stripedjob", role],
            env={**os.environ, **self.env, "STRIPEDJOB_WORKER": name, "STRIPEDJOB_PARENT": str(os.getpid())},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Ctrl-C is for the supervisor, which then tells the workers
        )
        member = Member(role, name, process, time.monotonic())
        threading.Thread(target=self._hear, args=(member,), daemon=True).start()
        self.members.append(member)
        return member

    def end(self, member: Member) -> None:
        """Tell a process to drain."""
        member.ending = True
        with contextlib.suppress(ProcessLookupError):
            member.process.terminate()

    def kill(self) -> None:
        """End all at once. Nothing is lost: their leases run out."""
        for member in self.members:
            with contextlib.suppress(ProcessLookupError):
                member.process.kill()
            member.process.wait()

    def bury(self) -> list[Member]:
        """Take out those that have ended."""
        ended = [member for member in self.members if member.process.poll() is not None]
        self.members = [member for member in self.members if member not in ended]
        return ended

    def at_work(self, role: Role = "worker") -> list[Member]:
        """Give those that were not told to end."""
        return [member for member in self.members if member.role == role and not member.ending]

    def _hear(self, member: Member) -> None:
        assert member.process.stderr is not None  # noqa: S101 - it is a pipe
        for line in member.process.stderr:
            try:
                record = json.loads(line)
            except ValueError:
                record = {"event": line.rstrip("\n")}
            if not isinstance(record, dict):
                record = {"event": line.rstrip("\n")}
            if str(record.get("level")).lower() == "error":
                member.last_error = str(record.get("event"))
            self.said.put(Said(member.name, record))
