"""kubectl, as the user has it: with their context, their namespace and their rights."""

import json
import subprocess
from dataclasses import dataclass
from typing import Any


class KubectlError(Exception):
    """What kubectl refused, in its own words."""


@dataclass(frozen=True, slots=True)
class Kubectl:
    """A kubectl with the options that say where."""

    program: str
    options: tuple[str, ...]

    def command(self, *args: str) -> list[str]:
        """Return the whole command line."""
        return [self.program, *args, *self.options]

    def ask(self, *args: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return subprocess.run(self.command(*args), input=stdin, capture_output=True, text=True, check=False)  # noqa: S603

    def get(self, *args: str, stdin: str | None = None) -> Any:
        """Return what it answers as JSON; raises KubectlError."""
        done = self.ask(*args, "-o", "json", stdin=stdin)
        if done.returncode:
            raise KubectlError(done.stderr.strip())
        return json.loads(done.stdout)

    def show(self, *args: str) -> int:
        """Run it with this process's own output; returns its exit code."""
        return subprocess.run(self.command(*args), check=False).returncode  # noqa: S603
