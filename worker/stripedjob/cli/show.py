"""Commands that show: status and explain."""

import json
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from stripedjob.cli.target import Place, target_options

if TYPE_CHECKING:
    from stripedjob.pool.client.admin import JobStatus

WATCH_SECONDS = 1.0


@click.command()
@target_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object (with --watch, one a second).")
@click.option("--watch", is_flag=True, help="Again every second, until Ctrl-C.")
def status(place: Place, *, as_json: bool, watch: bool) -> None:
    """Show what the job has to do, what it is doing, and what it has done.

    Example: stripedjob status job.yaml --watch
    """
    with place.open() as site, site.pool() as pool:
        job_id = pool.job_id(site.job.metadata.namespace, site.job.job_type)
        while True:
            one = pool.status(job_id)
            if as_json:
                click.echo(json.dumps(asdict(one)))
            else:
                if watch and sys.stdout.isatty():
                    click.clear()
                click.echo(_table(one))
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
    from stripedjob.explaining import sentences

    with place.open() as site, site.pool() as pool:
        facts = pool.explain(pool.job_id(site.job.metadata.namespace, site.job.job_type), resource)
        click.echo(json.dumps(facts) if as_json else "\n".join(sentences(facts, suspended=site.job.spec.suspend)))


def _table(one: "JobStatus") -> str:
    rows: list[tuple[str, Any]] = [
        ("job", f"{one.namespace}/{one.job_type}"),
        ("workers", f"{one.workers} ({one.working} at work, at most {one.schedule_limit})"),
        ("pending", f"{one.pending} units ({one.in_flight} in flight)"),
        ("resources", f"{one.ready_resources} ready, {one.leased_resources} leased, {one.waiting_resources} waiting"),
        ("delayed", one.delayed),
        ("held", one.held),
        ("dead", one.dead),
        ("done", f"{one.total_done} ({one.total_retried} retries, {one.total_crashed} crashes)"),
        ("leases", f"{one.total_claimed} ({one.total_stale} stale)"),
        ("locks", f"{one.total_lock_tries} tries, {one.total_lock_refusals} refusals"),
    ]
    return "\n".join(f"{name:<10} {value}" for name, value in rows)
