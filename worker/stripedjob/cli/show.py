"""Commands that show: status and explain."""

import json
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from stripedjob.cli.say import tell
from stripedjob.cli.target import Place, Site, target_options

if TYPE_CHECKING:
    from stripedjob.pool.client.viewer import JobStatus

WATCH_SECONDS = 1.0
TIMES_MINUTES = 5
VALUES_COLUMN = 11  # of the table
SHOWN_MAX = 5  # reasons and resources of each kind


@click.command()
@target_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object (with --watch, one a second).")
@click.option("--watch", is_flag=True, help="Again every second, until Ctrl-C.")
def status(place: Place, *, as_json: bool, watch: bool) -> None:
    """Show what the job has to do, what it is doing, what it has done, and what is in its way.

    Example: stripedjob status job.yaml --watch
    """
    from stripedjob.cli.outlook import lines
    from stripedjob.times import summary

    with place.open() as site, site.pool() as pool:
        job_id = pool.job_id(site.job.metadata.namespace, site.job.job_type)
        while True:
            one, outlook = pool.status(job_id), pool.outlook(job_id, SHOWN_MAX)
            times = summary(pool.times(job_id, TIMES_MINUTES))
            if as_json:
                click.echo(json.dumps(asdict(one) | {"outlook": outlook, "times": times}))
            else:
                if watch and sys.stdout.isatty():
                    click.clear()
                tell("\n".join([_table(one), *_times(times), *lines(outlook)]), err=False, indent=VALUES_COLUMN)
            if not watch:
                return
            time.sleep(WATCH_SECONDS)


@click.command()
@target_options
@click.argument("resource")
@click.option("--json", "as_json", is_flag=True, help="The facts as one JSON object.")
def explain(place: Place, resource: str, *, as_json: bool) -> None:
    """Say why a resource is or is not worked on: who holds it, since when, until when, and what stands before it.

    Example: stripedjob explain job.yaml listing-7
    """
    from stripedjob.explaining import may_be_locked, sentences

    with place.open() as site, site.pool() as pool:
        facts = pool.explain(pool.job_id(site.job.metadata.namespace, site.job.job_type), resource)
        facts["lock"] = _lock(place, site, resource) if may_be_locked(facts) else None
        if as_json:
            click.echo(json.dumps(facts))
        else:
            tell("\n".join(sentences(facts, suspended=site.job.spec.suspend)), err=False)


def _lock(place: Place, site: Site, resource: str) -> dict[str, Any]:
    """Ask the lock backend who holds a resource's lock; what it fails with is a part of the answer."""
    import asyncio

    from stripedjob.cli.exits import Failure
    from stripedjob.locks import Held, LockError, open_lock
    from stripedjob.settings import lock_settings

    async def look(url: str) -> Held | None:
        async with open_lock(lock_settings(site.job, url)) as lock:
            return await lock.look(resource)

    try:
        with place.open(site.job, lock=True) as there:
            held = asyncio.run(look(there.lock_url))
    except (LockError, Failure) as error:
        return {"token": None, "seconds_left": None, "error": str(error)}
    ms_left = held and held.ms_left
    return {
        "token": held and held.token,
        "seconds_left": None if ms_left is None else ms_left / 1000,
        "error": "",
    }


def _table(one: "JobStatus") -> str:
    from stripedjob.pool.client.viewer import breaker, paused
    from stripedjob.text import counted, printable

    retries, crashes = counted(one.total_retried, "retry", "retries"), counted(one.total_crashed, "crash", "crashes")
    rows: list[tuple[str, Any]] = [
        ("job", f"{one.namespace}/{one.job_type}"),
        *([("paused", printable(paused(one).removeprefix("paused ")))] if paused(one) else []),
        *([("breaker", printable(breaker(one).removeprefix("circuit breaker ")))] if breaker(one) else []),
        ("workers", f"{one.workers} ({one.working} at work, at most {one.schedule_limit})"),
        ("pending", f"{counted(one.pending, 'unit')} ({one.in_flight} in flight)"),
        ("resources", f"{one.ready_resources} ready, {one.leased_resources} leased, {one.waiting_resources} waiting"),
        ("delayed", one.delayed),
        ("held", one.held),
        ("dead", one.dead),
        ("done", f"{one.total_done} ({retries}, {crashes})"),
        ("leases", f"{one.total_claimed} ({one.total_stale} stale)"),
        ("locks", f"{counted(one.total_lock_tries, 'try', 'tries')}, {counted(one.total_lock_refusals, 'refusal')}"),
    ]
    return "\n".join(f"{name:<10} {value}" for name, value in rows)


def _times(times: dict[str, Any]) -> list[str]:
    """Return the lines of the last minutes' times; none where nothing was tried."""
    from stripedjob.text import rated
    from stripedjob.times import said

    if not times["tries"]:
        return []
    waited, ran = (
        ", ".join(f"{name} {said(seconds)}" for name, seconds in times[of].items()) for of in ("wait", "run")
    )
    return [
        f"{'tries':<10} {rated(times['per_second'])} in the last {TIMES_MINUTES} minutes",
        f"{'waited':<10} {waited}",
        f"{'ran':<10} {ran}",
    ]
