"""Commands that change what is in a pool: retry, release, purge, flush-locks."""

import asyncio
from collections.abc import Callable
from typing import Any, Literal

import click

from stripedjob.cli.asking import confirm
from stripedjob.cli.target import Place, target_options
from stripedjob.text import counted


def chooses_units(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say which units."""
    command = click.option("--id", "ids", type=int, multiple=True, help="This unit only; may be repeated.")(command)
    return click.option("--resource", help="Units of this resource only.")(command)


@click.command()
@target_options
@chooses_units
def retry(place: Place, resource: str | None, ids: tuple[int, ...]) -> None:
    """Make dead units ready again, with all their attempts.

    Example: stripedjob retry job.yaml --resource listing-7
    """
    _revive(place, "dead", resource, ids)


@click.command()
@target_options
@chooses_units
def release(place: Place, resource: str | None, ids: tuple[int, ...]) -> None:
    """Make held units ready again.

    Example: stripedjob release job.yaml --id 4711
    """
    _revive(place, "held", resource, ids)


@click.command()
@target_options
@chooses_units
@click.option("--held", "state", flag_value="held", help="Held units.")
@click.option("--dead", "state", flag_value="dead", help="Dead units.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def purge(place: Place, resource: str | None, ids: tuple[int, ...], state: Any, *, yes: bool) -> None:
    """Remove held or dead units for good.

    Example: stripedjob purge job.yaml --dead --yes
    """
    if state is None:
        raise click.UsageError("Say which: --held or --dead.")
    confirm(f"Remove {state} units for good?", yes=yes)
    with place.open() as site, site.pool() as pool:
        job_id = pool.job_id(site.job.metadata.namespace, site.job.job_type)
        click.echo(f"{counted(pool.purge(job_id, state, resource, ids), f'{state} unit')} removed")


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


def _revive(place: Place, state: Literal["held", "dead"], resource: str | None, ids: tuple[int, ...]) -> None:
    with place.open() as site, site.pool() as pool:
        job_id = pool.job_id(site.job.metadata.namespace, site.job.job_type)
        units = pool.revive(job_id, state, resource, ids)
        click.echo(f"{counted(units, f'{state} unit')} {'is' if units == 1 else 'are'} ready again")
