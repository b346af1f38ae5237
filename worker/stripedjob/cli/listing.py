"""The command that lists units, one by one."""

import datetime as dt
import json
import re
import shlex
from typing import TYPE_CHECKING, Any

import click

from stripedjob.cli.target import Place, target_options
from stripedjob.text import duration, printable

if TYPE_CHECKING:
    from stripedjob.pool.client.viewer import Filter, ViewerPool
    from stripedjob.pool.client.viewer import Place as After

STATES = ["ready", "leased", "waiting", "delayed", "held", "dead", "done"]
LIMIT_MAX = 100_000
LOOKED_MAX = 100_000  # units in one command; it says where to go on
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
AGE_SECONDS_MAX = 100 * 365 * 86_400


def _age(_ctx: click.Context, _param: click.Parameter, given: str | None) -> dt.datetime | None:
    """Take 90s, 15m, 1h or 7d; gives the time that long ago."""
    if given is None:
        return None
    found = re.fullmatch(r"(\d{1,10}(?:\.\d{1,6})?)([smhd])", given)
    if not found or float(found[1]) * UNITS[found[2]] > AGE_SECONDS_MAX:
        raise click.BadParameter(f"{given!r} is no length of time such as 90s, 15m, 1h or 7d")
    return dt.datetime.now(dt.UTC) - dt.timedelta(seconds=float(found[1]) * UNITS[found[2]])


def _place(_ctx: click.Context, _param: click.Parameter, given: str | None) -> "After":
    """Take ID@RESOURCE, of what is done ID@TIME, as the end of a page names it."""
    from stripedjob.pool.client.viewer import Place as After

    if given is None:
        return After()
    number, _, key = given.partition("@")
    if not (number.isascii() and number.isdigit() and int(number) < 2**63 and key):
        raise click.BadParameter(f"{given!r} is no place such as 4711@listing-7: the end of a page names the next one")
    return After(key, int(number))


@click.command("list")
@target_options
@click.option("--state", type=click.Choice(STATES), help="[default: all but done]")
@click.option("--resource", help="Units of this resource only.")
@click.option("--reason", metavar="TEXT", help="Units whose reason begins so.")
@click.option("--older-than", "before", metavar="TIME", callback=_age, help="Put in so long ago: 90s, 15m, 1h, 7d.")
@click.option("--limit", type=click.IntRange(1, LIMIT_MAX), default=100, show_default=True, help="At most so many.")
@click.option("--after", metavar="ID@RESOURCE", callback=_place, help="Go on there: as the end of a page says.")
@click.option("--payload", is_flag=True, help="With their payloads.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: units, next, looked.")
def list_units(
    place: Place,
    state: str | None,
    resource: str | None,
    reason: str | None,
    before: dt.datetime | None,
    limit: int,
    after: "After",
    **form: bool,
) -> None:
    """List units in the order of resource and id; of what is done, the last first.

    A unit is leased or waiting where its resource is: a worker has that, or it waits for a time, a lock or a person.
    `--reason` and `--older-than` are looked for in 100,000 units; then it says where to go on.

    \b
    Example: stripedjob list job.yaml --state dead --reason TypeError
             stripedjob list job.yaml --state ready --older-than 1h --json
    """  # noqa: D301 - click's mark for text that is not to be wrapped
    from stripedjob.pool.client.viewer import Filter

    which = Filter(state, resource, reason, before)
    with place.open() as site, site.pool() as pool:
        job_id = pool.job_id(site.job.metadata.namespace, site.job.job_type)
        units, looked, following = found(pool, job_id, which, after, limit, payload=form["payload"])
    if form["as_json"]:
        click.echo(json.dumps({"units": units, "next": following and _written(following), "looked": looked}))
        return
    for line in table(units) if units else []:
        click.echo(line)
    if not units and not following:
        click.echo("no such unit", err=True)
    if following:
        seen = "" if len(units) >= limit else f"{looked:,} units were looked at; "
        click.echo(f"{seen}go on with --after {shlex.quote(printable(_written(following)))}", err=True)


def found(
    pool: "ViewerPool", job_id: int, which: "Filter", after: "After", limit: int, *, payload: bool
) -> tuple[list[dict[str, Any]], int, "After | None"]:
    """Look for units, page by page: gives them, how many were looked at, and where to go on; None: that was all."""
    from stripedjob.pool.client.viewer import LOOKED_UNITS, PAYLOADS_MAX
    from stripedjob.pool.client.viewer import Place as After

    units: list[dict[str, Any]] = []
    looked = 0
    following: After | None = after
    is_filtered = which.reason is not None or which.before is not None or which.state is not None
    while following is not None and len(units) < limit and looked < LOOKED_MAX:
        left = limit - len(units)
        page = pool.list_units(job_id, which, following, looked=LOOKED_UNITS if is_filtered else left)
        units += page["units"][:left]
        looked += page["looked"]
        following = After(*page["next"]) if page["next"] else None
        if len(page["units"]) > left:
            last = units[-1]
            following = After(last["finished_at"] if which.state == "done" else last["resource"], last["id"])
    for first in range(0, len(units) if payload else 0, PAYLOADS_MAX):
        part = units[first : first + PAYLOADS_MAX]
        payloads = pool.payloads(job_id, [one["id"] for one in part])
        for one in part:
            one["payload"] = payloads.get(one["id"])  # None: it is gone meanwhile
    return units, looked, following


def table(units: list[dict[str, Any]]) -> list[str]:
    """Return lines with columns; texts from outside are made safe."""
    rows = [("ID", "STATE", "RESOURCE", "ATTEMPTS", "AGE", "DUE", "REASON")]
    rows += [
        (
            str(one["id"]),
            "paused" if one["is_paused"] and one["state"] == "waiting" else one["state"],
            printable(one["resource"]),
            str(one["attempts"]),
            duration(one["age_seconds"]),
            re.sub(r"\.\d+", "", one["due_at"] or "-"),  # without fractions of a second
            printable(one["reason"] or "-"),
        )
        for one in units
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    lines = []
    for row, unit in zip(rows, [{}, *units], strict=True):
        padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append("  ".join([*padded, row[-1]]))
        if unit.get("payload") is not None:
            lines.append(f"    {printable(unit['payload'])}")
    return lines


def _written(place: "After") -> str:
    return f"{place.id}@{place.resource}"
