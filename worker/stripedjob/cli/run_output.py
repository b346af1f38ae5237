"""How `stripedjob run` shows its progress: a live table on a terminal, plain lines elsewhere, JSON for machines."""

import json
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from stripedjob.cli.say import say, tell
from stripedjob.cli.wording import facts, is_shown, logged, waited
from stripedjob.local.outlook import Progress, View
from stripedjob.local.output import LogLine, Printed
from stripedjob.text import folded, printable

PLAIN_SECONDS = 2.0  # between two plain lines
SAME_SECONDS = 60.0  # between two that say the same
JSON_SECONDS = 1.0


class PlainView:
    """Lines on stdout, now and then; what workers log on stderr, and what handlers print where they print it."""

    def __init__(self) -> None:
        """Begin with a line at once."""
        self._next = self._next_same = 0.0
        self._last: object = None

    def said(self, said: LogLine) -> None:
        """Show a record of a worker."""
        for line in _lines(said):
            tell(line)

    def printed(self, printed: Printed) -> None:
        """Show a line that a handler has printed."""
        say(f"{printed.worker}: {printed.line}", err=printed.stream == "stderr")

    def progress(self, progress: Progress) -> None:
        """Show how far it is, where that has changed."""
        now = time.monotonic()
        this = (progress.status, progress.workers, [wait.words for wait in progress.waits])
        if now < (self._next_same if this == self._last else self._next):
            return
        self._next, self._next_same, self._last = now + PLAIN_SECONDS, now + SAME_SECONDS, this
        parts = [f"{name} {value}" for name, value in facts(progress)]
        say(" · ".join(parts + [printable(waited(wait)) for wait in progress.waits]), err=False)

    def note(self, words: str) -> None:
        """Show what the supervisor does."""
        tell(f"{_clock()} {printable(words)}")


class JsonView:
    """One JSON object a line: progress on stdout, what workers log on stderr, and what handlers print where they do."""

    def __init__(self) -> None:
        """Begin with a line at once."""
        self._next = 0.0

    def said(self, said: LogLine) -> None:
        """Pass a record on."""
        record = {"worker_id" if name == "worker" else name: value for name, value in said.record.items()}
        say(json.dumps({"worker": said.worker, **record}))

    def printed(self, printed: Printed) -> None:
        """Wrap a line that a handler has printed."""
        line = json.dumps({"event": "output", "worker": printed.worker, "line": printed.line})
        say(line, err=printed.stream == "stderr")

    def progress(self, progress: Progress) -> None:
        """Show how far it is, once a second."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + JSON_SECONDS
            say(json.dumps({"event": "progress", **asdict(progress)}), err=False)

    def note(self, words: str) -> None:
        """Show what the supervisor does."""
        say(json.dumps({"event": words}))


@dataclass(slots=True)
class LiveView:
    """A table that stays where it is; what workers say scrolls above it."""

    console: Console
    _live: Live = field(init=False)

    def __post_init__(self) -> None:
        """Take the terminal. It is drawn by this thread alone: rich's own would race with what scrolls above."""
        self._live = Live(console=self.console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        """Start drawing."""
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was."""
        self._live.stop()

    def said(self, said: LogLine) -> None:
        """Show a record of a worker."""
        for line in _lines(said):
            self._above(folded(line, self.console.width), "dim")

    def printed(self, printed: Printed) -> None:
        """Show a line that a handler has printed."""
        self._above(f"{printed.worker}: {printed.line}")

    def progress(self, progress: Progress) -> None:
        """Draw how far it is."""
        table = Table(show_header=False, box=None)
        for name, value in facts(progress):
            table.add_row(name, value)
        waits = [Text(f" {printable(waited(wait))}") for wait in progress.waits]
        self._live.update(Group(table, *waits), refresh=True)

    def note(self, words: str) -> None:
        """Show what the supervisor does."""
        self._above(folded(f"{_clock()} {printable(words)}", self.console.width))

    def _above(self, line: str, style: str | None = None) -> None:
        self.console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)


def choose(*, as_json: bool) -> AbstractContextManager[View]:
    """Take the view that fits where the output goes."""
    if as_json:
        return nullcontext(JsonView())
    console = Console()
    return LiveView(console) if console.is_terminal and not console.is_dumb_terminal else nullcontext(PlainView())


def _lines(said: LogLine) -> list[str]:
    record: dict[str, Any] = dict(said.record)
    if not is_shown(record):
        return []
    first, *trace = logged(record)
    return [f"{_clock()} {said.worker}: {first}", *trace]


def _clock() -> str:
    return time.strftime("%H:%M:%S")
