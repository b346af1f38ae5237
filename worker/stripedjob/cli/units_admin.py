"""Commands that change what is in a pool: retry, release, purge, flush-locks."""

import asyncio
import json
from collections.abc import Callable
from typing import Any, Literal

import click

from stripedjob.cli.asking import confirm, says_who
from stripedjob.cli.target import Place, target_options
from stripedjob.text import counted


def chooses_units(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command the options that say which units."""
    command = click.option("--id", "ids", type=int, multiple=True, help="This unit only; may be repeated.")(command)
    return click.option("--resource", help="Units of this resource only.")(command)


@click.command()
@target_options
@chooses_units
@says_who
@click.option("--now", is_flag=True, help="What waits for another try goes on at once, instead of what is dead.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def retry(place: Place, resource: str | None, ids: tuple[int, ...], who: str, *, now: bool, as_json: bool) -> None:
    """Make dead units ready again, with all their attempts. With --now, do not wait for the backoff of retries.

    --now is for units that were tried, and for resources that wait for a retry or a lock. A unit that is delayed since
    it was put in goes on now where its --id is given.

    \b
    Example: stripedjob retry job.yaml --resource listing-7
             stripedjob retry job.yaml --now
    """  # noqa: D301 - click's mark for text that is not to be wrapped
    if not now:
        _revive(place, "dead", resource, ids, who, as_json=as_json)
        return
    with place.open() as site, site.pool() as pool:
        job_id = pool.job_id(site.job.metadata.namespace, site.job.job_type)
        units, resources = pool.retry_now(job_id, resource, ids, who)
    if as_json:
        click.echo(json.dumps({"units": units, "resources": resources}))
    else:
        click.echo(f"{counted(units, 'delayed unit')} and {counted(resources, 'waiting resource')} go on now")


@click.command()
@target_options
@chooses_units
@says_who
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def release(place: Place, resource: str | None, ids: tuple[int, ...], who: str, *, as_json: bool) -> None:
    """Make held units ready again.

    Example: stripedjob release job.yaml --id 4711
    """
    _revive(place, "held", resource, ids, who, as_json=as_json)


@click.command()
@target_options
@chooses_units
@click.option("--held", "state", flag_value="held", help="Held units.")
@click.option("--dead", "state", flag_value="dead", help="Dead units.")
@says_who
@click.option("--yes", is_flag=True, help="Do not ask.")
def purge(place: Place, resource: str | None, ids: tuple[int, ...], state: Any, who: str, *, yes: bool) -> None:
    """Remove held or dead units for good.

    Example: stripedjob purge job.yaml --dead --yes
    """
    if state is None:
        raise click.UsageError("Say which: --held or --dead.")
    confirm(f"Remove {state} units for good?", yes=yes)
    with place.open() as site, site.pool() as pool:
        job_id = pool.job_id(site.job.metadata.namespace, site.job.job_type)
        click.echo(f"{counted(pool.purge(job_id, state, resource, ids, who), f'{state} unit')} removed")


@click.command("flush-locks")
@target_options
def flush_locks(place: Place) -> None:
    """Remove all locks of the job from the lock backend, whoever holds them. Postgres still knows who has which lease.

    Example: stripedjob flush-locks job.yaml --redis redis://…
    """
    from stripedjob.locks import open_lock
    from stripedjob.settings import lock_settings

    async def flush(url: str) -> int:
        async with open_lock(lock_settings(site.job, url)) as lock:
            return await lock.flush()

    with place.open(lock=True) as site:
        click.echo(f"{counted(asyncio.run(flush(site.lock_url)), 'lock')} removed")


def _revive(
    place: Place, state: Literal["held", "dead"], resource: str | None, ids: tuple[int, ...], who: str, *, as_json: bool
) -> None:
    with place.open() as site, site.pool() as pool:
        job_id = pool.job_id(site.job.metadata.namespace, site.job.job_type)
        units = pool.revive(job_id, state, resource, ids, who)
    if as_json:
        click.echo(json.dumps({"units": units}))
    else:
        click.echo(f"{counted(units, f'{state} unit')} {'is' if units == 1 else 'are'} ready again")
