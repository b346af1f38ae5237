"""Commands that act on what waits and runs: cancel, pause and resume."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from stripedjob.cli.asking import confirm, says_who, says_why
from stripedjob.cli.exits import Failure
from stripedjob.cli.target import Place, target_options
from stripedjob.cli.units_admin import chooses_units
from stripedjob.text import counted, printable

if TYPE_CHECKING:
    from stripedjob.pool.client.person import Cancelled

as_json = click.option("--json", "as_json", is_flag=True, help="One JSON object.")


@click.command()
@target_options
@chooses_units
@click.option("--all", "all_of_them", is_flag=True, help="All units of the job.")
@says_who
@says_why
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
def cancel(
    place: Place,
    resource: str | None,
    ids: tuple[int, ...],
    who: str,
    why: str,
    *,
    all_of_them: bool,
    yes: bool,
    **form: bool,
) -> None:
    """Cancel units: what waits is dead at once, and the try of what runs is ended by its worker, within seconds.

    The unit's reason says who and why; `retry` makes it ready again. A handler that is done before is done. The
    resource goes on with its next unit, also where order is strict.

    \b
    Example: stripedjob cancel job.yaml --id 4711 --why "wrong price"
             stripedjob cancel job.yaml --all --yes
    """  # noqa: D301 - click's mark for text that is not to be wrapped
    if not (all_of_them or ids or resource is not None) or (all_of_them and (ids or resource is not None)):
        raise click.UsageError("Say which: --id, --resource, or --all.")
    confirm("Cancel these units?", yes=yes)
    with place.open() as site, site.pool() as pool:
        job_id = pool.job_id(site.job.metadata.namespace, site.job.job_type)
        done = pool.cancel(job_id, resource, ids, who, why)
        left_over = _not_cancelled(ids, pool.unit_states(job_id, ids), who) if ids else {}
    if form["as_json"]:
        click.echo(json.dumps({"cancelled": done.ended, "asked": done.asked, "not_cancelled": left_over}))
    else:
        click.echo(_said(done))
        for unit, why_not in left_over.items():
            click.echo(f"unit {unit} is not cancelled: {why_not}")
    if left_over:
        raise Failure(1)


def _said(done: "Cancelled") -> str:
    asked = "" if not done.asked else f"; {counted(done.asked, 'unit')} of leased resources: what runs of them is ended"
    return f"{counted(done.ended, 'unit')} cancelled{asked}"


def _not_cancelled(ids: tuple[int, ...], states: dict[int, tuple[str, str | None]], who: str) -> dict[int, str]:
    """Say of these units why they were not cancelled, where they were not."""
    found = {}
    for unit in ids:
        state, reason = states.get(unit, ("", ""))
        if not state:
            found[unit] = "it is not there: it is done already, or never was"
        elif state == "done":
            found[unit] = "it is done already"
        elif state == "dead" and not (reason or "").startswith(f"cancelled by {who}"):
            found[unit] = "it was dead already"
    return found


def _paused_thing(command: Callable[..., None]) -> Callable[..., None]:
    return click.option("--resource", help="This resource only.  [default: the whole job]")(command)


@click.command()
@target_options
@_paused_thing
@says_who
@says_why
@as_json
def pause(place: Place, resource: str | None, who: str, why: str, **form: bool) -> None:
    """Pause the job, or a resource: nothing of it is claimed until `resume`. What runs ends; units come in as before.

    It outlives restarts and upgrades. `suspend: true` in FILE is apart from it: work goes on where both are off.

    Example: stripedjob pause job.yaml --resource listing-7 --why "its shop is closed"
    """
    _check_resource(resource)
    with place.open() as site, site.pool() as pool:
        changed = pool.pause(pool.job_id(site.job.metadata.namespace, site.job.job_type), resource, who, why)
    _tell(resource, "is paused" if changed else "was paused already", changed=changed, **form)


@click.command()
@target_options
@_paused_thing
@says_who
@as_json
def resume(place: Place, resource: str | None, who: str, **form: bool) -> None:
    """End a pause of the job, or of a resource: it goes on at once. An open circuit breaker of the job is closed.

    Example: stripedjob resume job.yaml --resource listing-7
    """
    _check_resource(resource)
    with place.open() as site, site.pool() as pool:
        changed = pool.resume(pool.job_id(site.job.metadata.namespace, site.job.job_type), resource, who)
    _tell(resource, "goes on" if changed else "was not paused", changed=changed, **form)


def _check_resource(resource: str | None) -> None:
    if resource is not None and not (resource and len(resource.encode(errors="replace")) <= 512):  # noqa: PLR2004
        raise click.BadParameter("a resource has 1 to 512 bytes", param_hint="--resource")


def _tell(resource: str | None, words: str, *, changed: bool, as_json: bool) -> None:
    fact: dict[str, Any] = {"resource": resource, "changed": changed}
    click.echo(json.dumps(fact) if as_json else f"{'the job' if resource is None else printable(resource)} {words}")
