"""`stripedjob run`: the whole of it on one machine."""

import json
import signal
import time
from dataclasses import asdict
from typing import Any

import click

from stripedjob.cli.exits import INTERRUPTED, Failure
from stripedjob.cli.site import Place, Site, takes_place


@click.command()
@takes_place
@click.option("--until-empty", is_flag=True, help="End when nothing is left to do.")
@click.option("--workers", type=click.IntRange(0), help="So many workers, instead of as many as the work needs.")
@click.option("--json", "as_json", is_flag=True, help="Progress and summary as JSON lines.")
def run(place: Place, *, until_empty: bool, workers: int | None, as_json: bool) -> None:
    """Work on a job on this machine: worker processes instead of pods, scaled in the same way.

    Ctrl-C drains: what runs is finished, the rest stays in the pool. A second Ctrl-C ends at once, with exit code 130;
    nothing is lost.

    Example: stripedjob run job.yaml --until-empty
    """
    from stripedjob.cli.units import prepared
    from stripedjob.local.supervisor import CrewError, Killed

    with place.open(lock=True) as site:
        job = site.job
        if workers is not None:
            if workers > job.effective_limit:
                raise click.UsageError(f"--workers {workers} is above the job's limit of {job.effective_limit}")
            scaling = job.spec.scaling.model_copy(update={"mode": "External"})
            spec = job.spec.model_copy(update={"scaling": scaling, "replicas": workers, "min_workers": 0})
            site = Site(job.model_copy(update={"spec": spec}), site.path, site.postgres_url, site.lock_url)  # noqa: PLW2901
        prepared(site)
        try:
            summary = _supervise(site, until_empty=until_empty, as_json=as_json)
        except CrewError as error:
            raise Failure(error.code if error.code > 0 else 1, str(error)) from error
        except Killed:
            raise Failure(INTERRUPTED, "everything was ended at once; leases run out by themselves") from None
    click.echo(json.dumps({"event": "summary", **summary}) if as_json else _words(summary))


def _supervise(site: Site, *, until_empty: bool, as_json: bool) -> dict[str, Any]:
    from stripedjob.cli.views import choose
    from stripedjob.local.crew import Crew
    from stripedjob.local.link import Link
    from stripedjob.local.supervisor import Supervisor
    from stripedjob.pool.admin import PoolAdmin

    env = {
        "STRIPEDJOB_SPEC": site.job.model_dump_json(by_alias=True, exclude_none=True, exclude={"status"}),
        "STRIPEDJOB_POSTGRES_URL": site.postgres_url,
        "STRIPEDJOB_LOCK_URL": site.lock_url,
        "STRIPEDJOB_PATH": str(site.path.absolute().parent),
    }
    schema = site.job.spec.pool.sql_schema
    with PoolAdmin.open(site.postgres_url, schema) as pool:
        job_id = pool.job_id(site.job.metadata.namespace, site.job.job_type)
        before, started = pool.status(job_id), time.monotonic()
    with choose(as_json=as_json) as view:
        link = Link(lambda: PoolAdmin.open(site.postgres_url, schema), view.note)
        supervisor = Supervisor(site.job, job_id, link, Crew(env), view, until_empty)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: supervisor.stop())
        supervisor.run()
    after = asdict(supervisor.last or before)
    totals = {name: after[name] - value for name, value in asdict(before).items() if name.startswith("total_")}
    seconds = time.monotonic() - started
    return {
        "seconds": round(seconds, 3),
        "workers": supervisor.peak,
        "units_per_second": round(totals["total_done"] / seconds, 1),
        **{name.removeprefix("total_"): value for name, value in totals.items()},
        **{name: after[name] for name in ("pending", "delayed")},
        **{f"{name}_now": after[name] for name in ("held", "dead")},
    }


def _words(summary: dict[str, Any]) -> str:
    left = {"held": summary["held_now"], "dead": summary["dead_now"]} | {
        name: summary[name] for name in ("pending", "delayed")
    }
    words = (
        f"{summary['done']:,} units done by {summary['workers']} workers in {summary['seconds']:.1f} s "
        f"({summary['units_per_second']:,.0f} units/s); {summary['retried']} retries, {summary['crashed']} crashes, "
        f"{summary['lock_tries']:,} lock tries, {summary['lock_refusals']} refusals, {summary['stale']} stale writes"
    )
    rest = ", ".join(f"{count:,} {name}" for name, count in left.items() if count)
    return f"{words}\nleft in the pool: {rest}" if rest else words
