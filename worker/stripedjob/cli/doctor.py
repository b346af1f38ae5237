"""The command that examines a pool and the servers that it is in."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from stripedjob.cli.exits import Failure
from stripedjob.cli.say import columns, say, tell
from stripedjob.cli.target import Place, Site, target_options
from stripedjob.text import folded, printable

if TYPE_CHECKING:
    from stripedjob.pool.install.doctor import Finding

MARKS = {"problem": ("✗", "red"), "warning": ("!", "yellow"), "note": ("·", None)}


@click.command()
@target_options
@click.option("--json", "as_json", is_flag=True, help="The findings as one JSON array.")
def doctor(place: Place, *, as_json: bool) -> None:
    """Say what is wrong with the pool, its Postgres and its lock server, and what to do. Nothing is changed.

    Looked at: versions, objects that were changed by hand, vacuum, bloat, long transactions, isolation, connections,
    leases that nobody takes back. Ends with 1 where there is a problem, with 0 otherwise.

    Example: stripedjob doctor job.yaml --postgres postgres://… --redis redis://…
    """
    with place.open(lock=True) as site:
        with site.pool() as pool:
            found = pool.examine()
        found += _locks(site)
    if as_json:
        click.echo(json.dumps([asdict(one) for one in found]))
    else:
        for one in found:
            _show(one)
        if not found:
            click.echo(f"schema {site.job.spec.pool.sql_schema}: nothing is wrong with it")
    if any(one.level == "problem" for one in found):
        raise Failure(1)


def _show(one: "Finding") -> None:
    mark, colour = MARKS[one.level]
    words = folded(f"{mark} {one.subject}: {printable(one.what)}", columns(err=False))
    say(f"{click.style(mark, fg=colour)}{words.removeprefix(mark)}", err=False)
    if one.remedy:
        tell(f"  {printable(one.remedy)}", err=False, indent=0)


def _locks(site: Site) -> "list[Finding]":
    """Ask the lock backend whether it can be used."""
    from stripedjob.cli.prepare import check_lock
    from stripedjob.locks import LockConfigError, LockUnavailable
    from stripedjob.pool.install.doctor import Finding

    try:
        check_lock(site.job, site.lock_url)
    except (LockConfigError, LockUnavailable) as error:
        return [Finding("problem", "locks", str(error), "workers claim nothing meanwhile; nothing is lost")]
    return []
