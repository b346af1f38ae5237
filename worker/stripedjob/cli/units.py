"""Commands that put work in: enqueue from a file, create-work from a seed."""

import io
import random
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from stripedjob.cli.exits import DataError
from stripedjob.cli.site import Place, Site, migration_shown, takes_place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from stripedjob.cli.lines import Lines
    from stripedjob.cli.read import Format, Reader
    from stripedjob.pool.enqueue import NewUnit

STDIN = "-"
TICK_LINES = 1000  # between two moves of the progress bar
# What is not UTF-8 is found by Lines, line by line.
ENCODING: Any = {"encoding": "utf-8-sig", "errors": "surrogateescape", "newline": ""}


@click.command()
@takes_place
@click.option("--from", "source", required=True, metavar="PATH", help="units.csv, units.jsonl, or - for stdin.")
@click.option("--format", "form", type=click.Choice(["csv", "jsonl"]), help="[default: by the suffix; jsonl for -]")
@click.option("--skip-bad", is_flag=True, help="Leave bad lines out and load the rest, instead of loading nothing.")
def enqueue(place: Place, source: str, form: "Format | None", *, skip_bad: bool) -> None:
    """Put in the units of a file: all of them, or none.

    A CSV file has a header with resource,payload and optionally importance,due_at,dedup_id; a JSONL file has an object
    with these keys on each line. A payload is JSON; due_at is ISO 8601 with a time zone.

    Example: stripedjob enqueue job.yaml --from units.csv
    """
    from stripedjob.cli.lines import Lines
    from stripedjob.cli.read import Reader

    reader = Reader(form or _format_of(source))
    with place.open() as site, _opened(source) as (file, size):
        lines = Lines(file)
        counted = _counted(reader, lines, file.buffer.tell if size else lambda: lines.number, skip_bad=skip_bad)
        new = _load(site, counted, f"loading {source}", size)
    if reader.bad_count:
        click.echo(reader.complaint(), err=True)
        click.echo(f"left out: {reader.bad_count} bad lines", err=True)
    known = reader.read - reader.bad_count - new
    click.echo(
        f"{new} units enqueued for {site.job.job_type}" + (f", {known} known or empty left out" if known else "")
    )


@click.command("create-work")
@takes_place
@click.option("--units", type=click.IntRange(1), default=10_000, show_default=True, help="How many.")
@click.option("--resources", type=click.IntRange(1), default=1_000, show_default=True, help="Over how many resources.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same work.")
def create_work(place: Place, units: int, resources: int, seed: int) -> None:
    """Put in made-up units, to try a job out: each with a number as its payload, over resources drawn at random.

    Example: stripedjob create-work job.yaml --units 10000 --resources 1000 --seed 1
    """
    from stripedjob.pool.enqueue import NewUnit

    dice = random.Random(seed)  # noqa: S311 - reproducible on purpose
    width = len(str(resources))

    def made(tick: "Callable[[int], None]") -> "Iterator[NewUnit]":
        for number in range(units):
            if number % TICK_LINES == 0:
                tick(number)
            # The first ones see to it that every resource is there.
            resource = number if number < resources else dice.randrange(resources)
            yield NewUnit(resource=f"resource-{resource:0{width}}", payload={"number": number})

    with place.open() as site:
        new = _load(site, made, "creating work", units)
    click.echo(f"{new} units of {min(units, resources)} resources created for {site.job.job_type} (seed {seed})")


def prepared(site: Site) -> None:
    """Bring the pool to this version and the job to its file."""
    from stripedjob.pool.admin import PoolAdmin
    from stripedjob.settings import job_settings

    with PoolAdmin.open(site.postgres_url, site.job.spec.pool.sql_schema) as pool:
        with migration_shown():
            pool.migrate()
        pool.apply(job_settings(site.job))


def _load(
    site: Site, units: "Callable[[Callable[[int], None]], Iterable[NewUnit]]", what: str, total: int | None
) -> int:
    from stripedjob.pool.admin import PoolAdmin
    from stripedjob.pool.connection import foreign_errors
    from stripedjob.pool.enqueue import enqueue_many

    prepared(site)
    job = site.job
    opened = PoolAdmin.open(site.postgres_url, job.spec.pool.sql_schema)
    with opened as pool, _progress(what, total) as tick, foreign_errors():
        return enqueue_many(pool.conn, job.job_type, units(tick), namespace=job.metadata.namespace, schema=pool.schema)


def _counted(
    reader: "Reader", lines: "Lines", where: "Callable[[], int]", *, skip_bad: bool
) -> "Callable[[Callable[[int], None]], Iterator[NewUnit]]":
    def units(tick: "Callable[[int], None]") -> "Iterator[NewUnit]":
        for number, unit in enumerate(reader.units(lines)):
            if number % TICK_LINES == 0:
                tick(where())
            yield unit
        if reader.bad_count and not skip_bad:
            raise DataError(
                f"nothing was loaded: {reader.bad_count} of {reader.read} lines are bad (--skip-bad leaves them out)\n"
                + reader.complaint()
            )

    return units


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
    raise click.UsageError(f"{source}: neither .csv nor .jsonl; say which with --format")


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
