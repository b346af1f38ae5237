"""The command that says what happened to a resource, to a unit, or to the job as a whole."""

import json
from typing import Any

import click

from stripedjob.cli.exits import Failure
from stripedjob.cli.target import Place, target_options

LIMIT_MAX = 100_000
PAGE_EVENTS = 1_000  # in one call
ID_MAX = 2**63 - 1


@click.command()
@target_options
@click.option("--resource", help="What happened to this resource and its units; without this and --unit, to the job.")
@click.option(
    "--unit", type=click.IntRange(1, ID_MAX), help="What happened to this unit, also where it is done and gone."
)
@click.option("--limit", type=click.IntRange(1, LIMIT_MAX), default=100, show_default=True, help="At most so many.")
@click.option("--before", type=click.IntRange(1, ID_MAX), metavar="N", help="Go on there: as the end of a page says.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: events, next, kept_seconds.")
def history(
    place: Place, resource: str | None, unit: int | None, limit: int, before: int | None, *, as_json: bool
) -> None:
    """Say what happened to a resource, to a unit, or to the job as a whole, the newest first: from beginning to end.

    Each line has who did it: a worker, with the fence of its lease, or a person. It is kept for
    retention.historySeconds, and written where that is not 0.

    \b
    Example: stripedjob history job.yaml --resource listing-7
             stripedjob history job.yaml --unit 4711 --json
             stripedjob history job.yaml
    """  # noqa: D301 - click's mark for text that is not to be wrapped
    of = resource if unit is None else unit
    if resource is not None and unit is not None:
        raise click.UsageError("Say of what: --resource or --unit, not both.")
    found: dict[str, Any] = {"events": [], "next": before}
    with place.open() as site, site.pool() as pool:
        job_id = pool.job_id(site.job.metadata.namespace, site.job.job_type)
        while len(found["events"]) < limit and (found["next"] is not None or not found["events"]):
            size = min(PAGE_EVENTS, limit - len(found["events"]))
            page = pool.history(job_id, of, found["next"], events=size)
            found |= page | {"events": found["events"] + page["events"]}
            if page["next"] is None:
                break
    if as_json:
        click.echo(json.dumps({key: found[key] for key in ("events", "next", "kept_seconds")}))
        return
    if not found["kept_seconds"]:
        words = "this job keeps no history: set retention.historySeconds in FILE; `stripedjob migrate FILE` applies it"
        raise Failure(1, words.replace("FILE", str(place.file)))
    click.echo("\n".join(table(found["events"])) or f"nothing is known of it for the last {found['kept_seconds']:,} s")
    if found["next"] is not None:
        click.echo(f"go on with --before {found['next']}", err=True)


def table(events: list[dict[str, Any]]) -> list[str]:
    """Return lines with columns; texts from outside are made safe."""
    from stripedjob.telling import told

    rows = [(one["at"], "-" if one["unit"] is None else f"unit {one['unit']}", told(one)) for one in events]
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    return [f"{at.ljust(widths[0])}  {of.ljust(widths[1])}  {words}" for at, of, words in rows]
