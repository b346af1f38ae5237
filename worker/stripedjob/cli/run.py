"""`stripedjob run`: the whole of it on one machine."""

import json
import signal
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from stripedjob.cli.exits import INTERRUPTED, Failure
from stripedjob.cli.say import say, tell
from stripedjob.cli.target import Place, Site, target_options
from stripedjob.text import counted, rated

if TYPE_CHECKING:
    from stripedjob.local.supervisor import Supervisor
    from stripedjob.pool.client.viewer import JobStatus
    from stripedjob.spec.model import StripedJob


@click.command()
@target_options
@click.option("--until-empty", is_flag=True, help="End when nothing is left to do.")
@click.option("--workers", type=click.IntRange(0), help="So many workers, instead of as many as the work needs.")
@click.option("--fail-on-dead", is_flag=True, help="End with exit code 1 where units have died meanwhile.")
@click.option("--json", "as_json", is_flag=True, help="Progress and summary as JSON lines.")
def run(place: Place, *, until_empty: bool, workers: int | None, fail_on_dead: bool, as_json: bool) -> None:
    """Work on a job on this machine: worker processes instead of pods, scaled in the same way.

    Ctrl-C drains: what runs is finished, the rest stays in the pool, and the exit code is 130. A second Ctrl-C ends at
    once; nothing is lost. SIGTERM drains, too, and the exit code is 0.

    Example: stripedjob run job.yaml --until-empty
    """
    from stripedjob.cli import prepare

    began = time.monotonic()
    job = _with_workers(place.load(), workers)
    trial = prepare.begin_trial(place, job)
    import stripedjob.local.supervisor  # noqa: F401 - while the trial runs

    asked = bool(place.redis) and job.spec.lock.backend == "Redis"
    if asked:
        prepare.check_lock(job, place.redis or "")
    prepare.check_handler(trial)
    with place.open(job, lock=True, create=True) as site:
        prepare.apply(site)
        if place.redis and not asked:
            prepare.check_lock(job, place.redis)
        summary, interrupted = _supervise(site, began, until_empty=until_empty, as_json=as_json)
    if as_json:
        say(json.dumps({"event": "summary", **summary}), err=False)
    else:
        tell(_words(summary), err=False)
    if interrupted:
        raise Failure(INTERRUPTED)
    if fail_on_dead and summary["dead"]:
        raise Failure(1, f"{counted(summary['dead'], 'unit')} died; `stripedjob explain` says why")


def _with_workers(job: "StripedJob", workers: int | None) -> "StripedJob":
    if workers is None:
        return job
    if workers > job.effective_limit:
        raise click.UsageError(f"--workers {workers} is more than may be at work: {_limit_of(job)}")
    scaling = job.spec.scaling.model_copy(update={"mode": "External"})
    spec = job.spec.model_copy(update={"scaling": scaling, "replicas": workers, "min_workers": 0})
    return job.model_copy(update={"spec": spec})


def _limit_of(job: "StripedJob") -> str:
    if job.spec.suspend:
        return "spec.suspend is true"
    limit = job.spec.schedule_limit
    return f"spec.scheduleLimit is {limit}" if job.effective_limit == limit else "spec.parallel is false"


def _supervise(site: Site, began: float, *, until_empty: bool, as_json: bool) -> tuple[dict[str, Any], bool]:
    """Run until it is over; gives the summary, and whether Ctrl-C has ended it."""
    from stripedjob.cli.run_output import choose
    from stripedjob.local.link import Link
    from stripedjob.local.processes import ProcessGroup
    from stripedjob.local.supervisor import CrewError, Killed, Supervisor
    from stripedjob.pool.client.operator import OperatorPool
    from stripedjob.runtime.settings import Plan

    plan = Plan.of(site.job, site.postgres_url, site.lock_url, str(site.path.absolute().parent))
    env = {"STRIPEDJOB_PLAN": plan.packed(), "STRIPEDJOB_POSTGRES_URL": site.postgres_url}
    signals: list[int] = []
    with site.pool() as pool:
        job_id = pool.job_id(site.job.metadata.namespace, site.job.job_type)
        before = pool.status(job_id)
    with choose(as_json=as_json) as view:
        link = Link(lambda: OperatorPool.open(site.postgres_url, site.job.spec.pool.sql_schema), view.note)
        supervisor = Supervisor(site.job, job_id, link, ProcessGroup(env), view, until_empty)

        def stop(number: int, _frame: object) -> None:
            signals.append(number)
            supervisor.stop()

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
        try:
            supervisor.run()
        except CrewError as error:
            raise Failure(error.code if error.code > 0 else 1, str(error)) from error
        except Killed:
            raise Failure(INTERRUPTED, "everything was ended at once; leases run out by themselves") from None
    return _summary(supervisor, before, time.monotonic() - began), signal.SIGINT in signals


def _summary(supervisor: "Supervisor", before: "JobStatus", seconds: float) -> dict[str, Any]:
    after = asdict(supervisor.last or before)
    totals = {name: after[name] - value for name, value in asdict(before).items() if name.startswith("total_")}
    working = supervisor.working.seconds
    return {
        "seconds": round(seconds, 3),
        "working_seconds": round(working, 3),
        "workers": supervisor.peak,
        "units_per_second": round(totals["total_done"] / working, 1) if working else 0.0,
        **{name.removeprefix("total_"): value for name, value in totals.items()},
        **{name: after[name] for name in ("pending", "delayed")},
        **{f"{name}_now": after[name] for name in ("held", "dead")},
    }


def _words(summary: dict[str, Any]) -> str:
    left = {"held": summary["held_now"], "dead": summary["dead_now"]} | {
        name: summary[name] for name in ("pending", "delayed")
    }
    words = f"{counted(summary['done'], 'unit')} done"
    if working := summary["working_seconds"]:
        words += (
            f" in {working:.1f} s ({rated(summary['done'] / working)}) by up to"
            f" {counted(summary['workers'], 'worker')}; {summary['seconds']:.1f} s in all"
        )
    else:
        words += f"; {summary['seconds']:.1f} s in all"
    odd = (
        (summary["retried"], "retry", "retries"),
        (summary["crashed"], "crash", "crashes"),
        (summary["lock_refusals"], "refused lock", ""),
        (summary["stale"], "stale write", ""),
    )
    words += "".join(f"; {counted(*one)}" for one in odd if one[0])
    rest = ", ".join(f"{count:,} {name}" for name, count in left.items() if count)
    return f"{words}\nleft in the pool: {rest}" if rest else words
