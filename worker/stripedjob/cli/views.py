"""How `stripedjob run` shows its progress: a live table on a terminal, plain lines elsewhere, JSON for machines."""

import errno
import json
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any, Self

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table

from stripedjob.cli.text import all_printable, printable
from stripedjob.local.hearing import Printed, Said
from stripedjob.local.supervisor import Progress, View

PLAIN_SECONDS = 2.0  # between two plain lines
NOT_SHOWN = {"event", "level", "logger", "timestamp", "job"}  # of a log record
QUIET_EVENTS = {"connected to Postgres", "draining", "drained"}
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class PlainView:
    """Lines on stdout, now and then; what workers log on stderr, and what handlers print where they print it."""

    def __init__(self) -> None:
        """Begin with a line at once."""
        self._next = 0.0

    def said(self, said: Said) -> None:
        """Show a line of a worker."""
        if said.record.get("event") not in QUIET_EVENTS:
            _show(f"{said.worker}: {_line(said)}", err=True)

    def printed(self, printed: Printed) -> None:
        """Show a line that a handler has printed."""
        _show(f"{printed.worker}: {printed.line}", err=printed.stream == "stderr")

    def progress(self, progress: Progress) -> None:
        """Show how far it is."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + PLAIN_SECONDS
            _show(" · ".join(f"{name} {value}" for name, value in _facts(progress)))

    def note(self, words: str) -> None:
        """Show what the supervisor does."""
        _show(printable(words), err=True)


class JsonView:
    """One JSON object a line: progress on stdout, what workers log on stderr, and what handlers print where they do."""

    def __init__(self) -> None:
        """Begin with a line at once."""
        self._next = 0.0

    def said(self, said: Said) -> None:
        """Pass a record on."""
        _show(json.dumps({"worker": said.worker, **said.record}), err=True)

    def printed(self, printed: Printed) -> None:
        """Wrap a line that a handler has printed."""
        line = json.dumps({"event": "output", "worker": printed.worker, "line": printed.line})
        _show(line, err=printed.stream == "stderr")

    def progress(self, progress: Progress) -> None:
        """Show how far it is, once a second."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + 1.0
            _show(json.dumps({"event": "progress", **asdict(progress)}))

    def note(self, words: str) -> None:
        """Show what the supervisor does."""
        _show(json.dumps({"event": words}), err=True)


class LiveView:
    """A table that stays where it is; what workers say scrolls above it."""

    def __init__(self) -> None:
        """Take the terminal."""
        self._console = Console()
        self._live = Live(console=self._console, refresh_per_second=5, transient=True)

    def __enter__(self) -> Self:
        """Start drawing."""
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was."""
        self._live.stop()

    def said(self, said: Said) -> None:
        """Show a line of a worker."""
        if said.record.get("event") not in QUIET_EVENTS:
            self._console.print(f"{said.worker}: {_line(said)}", style="dim", markup=False, highlight=False)

    def printed(self, printed: Printed) -> None:
        """Show a line that a handler has printed."""
        self._console.print(f"{printed.worker}: {printed.line}", markup=False, highlight=False)

    def progress(self, progress: Progress) -> None:
        """Draw how far it is."""
        table = Table(show_header=False, box=None)
        for name, value in _facts(progress):
            table.add_row(name, value)
        self._live.update(table)

    def note(self, words: str) -> None:
        """Show what the supervisor does."""
        self._console.print(printable(words), markup=False, highlight=False)


def choose(*, as_json: bool) -> AbstractContextManager[View]:
    """Take the view that fits where the output goes."""
    if as_json:
        return nullcontext(JsonView())
    return LiveView() if sys.stdout.isatty() else nullcontext(PlainView())


def _show(words: str, *, err: bool = False) -> None:
    """Write a line of progress; where the volume behind the stream is full, the line is lost, and the work goes on."""
    try:
        click.echo(words, err=err)
    except OSError as error:
        if error.errno not in FULL:
            raise


def _facts(progress: Progress) -> list[tuple[str, str]]:
    status = progress.status
    facts = [
        ("workers", f"{progress.workers} ({status.working} at work, at most {status.schedule_limit})"),
        ("pending", f"{status.pending:,}"),
        ("done", f"{status.total_done:,}"),
        ("rate", f"{progress.rate:,.0f}/s"),
        ("ETA", "-" if progress.eta_seconds is None else _duration(progress.eta_seconds)),
    ]
    facts += [(name, f"{getattr(status, name):,}") for name in ("delayed", "held", "dead") if getattr(status, name)]
    return facts


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _line(said: Said) -> str:
    record: dict[str, Any] = all_printable(dict(said.record))
    shown = {name: value for name, value in record.items() if name not in NOT_SHOWN}
    return " ".join([str(record["event"]), *(f"{name}={value}" for name, value in shown.items())])
