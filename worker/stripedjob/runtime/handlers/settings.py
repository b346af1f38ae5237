"""What a StripedJob says of its handler, as the processes of a worker know it."""

from dataclasses import dataclass
from typing import Literal

from stripedjob.pool.types import Database


@dataclass(frozen=True, slots=True)
class HandlerSettings:
    """What to call: `target` is `pkg.mod:func`, the URL, or the command with its arguments.

    `around`: `pkg.mod:func` of the context manager around each call of a Python function; "": none.
    """

    kind: Literal["python", "exec", "http"]
    target: tuple[str, ...]
    timeout_seconds: float = 300.0
    per_resource: bool = False
    database: Database | None = None
    around: str = ""

    @property
    def arguments(self) -> int:
        """How many arguments a Python function gets: a unit or its resource's units, and the connection."""
        return 1 if self.database is None else 2

    @property
    def ends_itself(self) -> bool:
        """Whether it keeps its time-out by itself: a command is ended alone, a Python function with its process."""
        return self.kind != "python"

    def __str__(self) -> str:
        """Name it as the StripedJob does."""
        return f"{self.kind}: {' '.join(self.target)}"
