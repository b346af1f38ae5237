"""Commands that put work in: enqueue from a file, create-work from a seed."""

import io
import itertools
import random
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from stripedjob.cli.exits import DataError
from stripedjob.cli.say import say
from stripedjob.cli.target import Place, Site, target_options
from stripedjob.text import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stripedjob.cli.lines import Lines
    from stripedjob.cli.read import Format, Reader
    from stripedjob.pool.client.enqueue import NewUnit

    Shown = Callable[[Callable[[int], None]], Iterator[NewUnit]]  # takes where a progress bar is moved

STDIN = "-"
TICK_UNITS = 1000  # between two moves of the progress bar
LOOK_AHEAD_UNITS, LOOK_AHEAD_CHARACTERS = 1000, 4_000_000  # read before a database is there
# What is not UTF-8 is found by Lines, line by line.
ENCODING: Any = {"encoding": "utf-8-sig", "errors": "surrogateescape", "newline": ""}


@click.command()
@target_options
@click.option("--from", "source", required=True, metavar="PATH", help="units.csv, units.jsonl, or - for stdin.")
@click.option("--format", "form", type=click.Choice(["csv", "jsonl"]), help="[default: by the suffix; jsonl for -]")
@click.option("--skip-bad", is_flag=True, help="Leave bad lines out and load the rest, instead of loading nothing.")
def enqueue(place: Place, source: str, form: "Format | None", *, skip_bad: bool) -> None:
    """Put in the units of a file: all of them, or none.

    A CSV file has a header with resource,payload and optionally importance,due_at,dedup_id; a JSONL file has an object
    with these keys on each line. A payload is JSON; due_at is ISO 8601 with a time zone. A job that is in the pool
    keeps its settings, whatever FILE says: `run` and `migrate` change them.

    Example: stripedjob enqueue job.yaml --from units.csv
    """
    from stripedjob.cli.lines import Lines
    from stripedjob.cli.read import Reader

    job, reader = place.load(), Reader(form or _format_of(source))
    with _opened(source) as (file, size):
        lines = Lines(file)
        units = _checked(reader, lines, skip_bad=skip_bad)
        first = _looked_ahead(units)  # a mistake in these costs no engine its start
        shown = _ticking(itertools.chain(first, units), file.buffer.tell if size else lambda: lines.number)
        with place.open(job, create=True) as site:
            new = _load(site, shown, f"loading {source}", size)
    if reader.bad_count:
        say(reader.complaint())
        say(f"left out: {counted(reader.bad_count, 'bad line')}")
    known = reader.read - reader.bad_count - new
    click.echo(
        f"{counted(new, 'unit')} enqueued for {job.job_type}" + (f", {known} known or empty left out" if known else "")
    )


@click.command("create-work")
@target_options
@click.option("--units", type=click.IntRange(1), default=10_000, show_default=True, help="How many.")
@click.option("--resources", type=click.IntRange(1), default=1_000, show_default=True, help="Over how many resources.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same work.")
def create_work(place: Place, units: int, resources: int, seed: int) -> None:
    """Put in made-up units, to try a job out: each with a payload such as {"number": 7}, over random resources.

    Example: stripedjob create-work job.yaml --units 10000 --resources 1000 --seed 1
    """
    from stripedjob.pool.client.enqueue import NewUnit

    rng = random.Random(seed)  # noqa: S311 - reproducible on purpose
    width = len(str(resources))

    def made() -> "Iterator[NewUnit]":
        for number in range(units):
            # The first ones see to it that every resource is there.
            resource = number if number < resources else rng.randrange(resources)
            yield NewUnit(resource=f"resource-{resource:0{width}}", payload={"number": number})

    numbers = itertools.count(0, TICK_UNITS)
    with place.open(create=True) as site:
        new = _load(site, _ticking(made(), lambda: next(numbers)), "creating work", units)
    spread = counted(min(units, resources), "resource")
    click.echo(f"{counted(new, 'unit')} of {spread} created for {site.job.job_type} (seed {seed})")


def _load(site: Site, units: "Shown", what: str, total: int | None) -> int:
    from stripedjob.cli.prepare import make
    from stripedjob.pool.client.enqueue import enqueue_many
    from stripedjob.pool.connection import foreign_errors

    make(site)
    job = site.job
    with site.pool() as pool, _progress(what, total) as tick, foreign_errors():
        return enqueue_many(pool.conn, job.job_type, units(tick), namespace=job.metadata.namespace, schema=pool.schema)


def _checked(reader: "Reader", lines: "Lines", *, skip_bad: bool) -> "Iterator[NewUnit]":
    """Yield the good units; after a bad line none, only to raise DataError at the end with all that is bad."""
    for unit in reader.units(lines):
        if skip_bad or not reader.bad_count:
            yield unit
    if reader.bad_count and not skip_bad:
        bad = f"{reader.bad_count} of {counted(reader.read, 'line')}"
        raise DataError(f"nothing was loaded: {bad} cannot be used (--skip-bad leaves them out)\n{reader.complaint()}")


def _looked_ahead(units: "Iterator[NewUnit]") -> "list[NewUnit]":
    """Take the first units, within a bound."""
    first, characters = [], 0
    for unit in units:
        first.append(unit)
        characters += len(unit.payload_text())
        if len(first) == LOOK_AHEAD_UNITS or characters > LOOK_AHEAD_CHARACTERS:
            break
    return first


def _ticking(units: "Iterator[NewUnit]", where: "Callable[[], int]") -> "Shown":
    """Move a progress bar now and then to where the units are."""

    def shown(tick: "Callable[[int], None]") -> "Iterator[NewUnit]":
        for number, unit in enumerate(units):
            if number % TICK_UNITS == 0:
                tick(where())
            yield unit

    return shown


@contextmanager
def _progress(what: str, total: int | None) -> "Iterator[Callable[[int], None]]":
    """Show a progress bar on a terminal, and nothing elsewhere."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)


def _format_of(source: str) -> "Format":
    suffix = Path(source).suffix
    if suffix == ".csv":
        return "csv"
    if suffix in {".jsonl", ".ndjson"} or source == STDIN:
        return "jsonl"
    raise DataError(f"{source}: its name ends neither in .csv nor in .jsonl; say --format csv or --format jsonl")


@contextmanager
def _opened(source: str) -> "Iterator[tuple[TextIO, int | None]]":
    """Open the source, as Lines takes it; gives its size in bytes, where that is known."""
    try:
        if source == STDIN:
            yield io.TextIOWrapper(sys.stdin.buffer, **ENCODING), None
        else:
            with Path(source).open(**ENCODING) as file:
                yield file, Path(source).stat().st_size
    except OSError as error:
        raise DataError(f"{source}: cannot be read: {error.strerror}") from error
