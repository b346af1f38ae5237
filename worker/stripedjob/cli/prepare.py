"""Before a command works on a pool: what can be looked at without it, and the pool and the job brought up to date."""

import asyncio
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from stripedjob.cli.say import tell
from stripedjob.cli.target import Place, Site, migration_shown
from stripedjob.text import counted, printable

if TYPE_CHECKING:
    from stripedjob.local.trial import Trial
    from stripedjob.pool.client.owner import OwnerPool
    from stripedjob.pool.types import JobSettings
    from stripedjob.spec.model import StripedJob

SHOWN_MAX = 3  # names in one message
# What the pool judges a job by, as the StripedJob calls it.
SETTINGS = {
    "schedule_limit": "scheduleLimit",
    "importance": "importance",
    "lease_seconds": "lock.leaseSeconds",
    "crash_threshold": "retry.crashThreshold",
    "on_failure": "retry.onFailure",
    "completed_seconds": "retention.completedSeconds",
    "dead_seconds": "retention.deadSeconds",
    "delegated": "delegation, by the strategy,",
    "outstanding_max": "throttle.maxOutstanding",
    "starts_max": "throttle.rate",
    "period_seconds": "throttle.periodSeconds",
    "area_label": "throttle.areaLabel",
    "deduplicate_content": "contentBasedDeduplication",
    "history_seconds": "retention.historySeconds",
}


def begin_trial(place: Place, job: "StripedJob") -> "Trial | None":
    """Begin to load a Python handler; a command is looked for at once. Raises HandlerError for one that is not here."""
    from stripedjob.local.trial import Trial
    from stripedjob.runtime.executor.supervisor import HandlerError
    from stripedjob.runtime.handlers.command import find

    handler = job.spec.handler
    if handler.kind == "python":
        arguments, path = 2 if handler.transaction else 1, place.file.absolute().parent
        return Trial.start(handler.target[0], arguments, handler.around or "", path)
    if handler.kind == "exec":
        try:
            find(handler.target)
        except FileNotFoundError as error:
            raise HandlerError(f"handler exec: {error}") from None
    return None


def check_handler(trial: "Trial | None") -> None:
    """Raise HandlerError where the handler cannot be used on this machine."""
    from stripedjob.runtime.executor.supervisor import HandlerError

    if trial is not None and (absent := trial.verdict()):
        raise HandlerError(
            f"the handler cannot be loaded: there is no module {absent}; it belongs beside FILE, or into this Python's"
            " packages"
        )


def check_lock(job: "StripedJob", url: str) -> None:
    """Ask the lock backend whether it can be used; raises LockUnavailable, LockConfigError."""
    from stripedjob.locks import open_lock
    from stripedjob.settings import lock_settings

    async def ping() -> None:
        async with open_lock(lock_settings(job, url)) as lock:
            await lock.ping()

    asyncio.run(ping())


def make(site: Site) -> None:
    """Bring the pool to this version, and put the job in where it is new; a job that is there keeps its settings."""
    from stripedjob.pool.errors import NOT_PERMITTED, PoolRefusedError
    from stripedjob.settings import job_settings

    ours = job_settings(site.job)
    with site.pool() as pool:
        try:
            theirs = _migrated(pool, ours)
        except PoolRefusedError as error:
            if error.sqlstate != NOT_PERMITTED:
                raise
            return  # who may enqueue and no more is told then whether the job is there
        if theirs is None:
            pool.apply(ours)
            return
    different = differences(ours, theirs)
    if different:
        _say(
            f"{site.path} differs from the job {ours.job_type} in the pool, which stays as it is: {different}"
            f" (`stripedjob migrate {site.path}` changes it)"
        )


def apply(site: Site) -> None:
    """Bring the pool to this version and the job to its file; say what that changes, and who works on it already."""
    from stripedjob.settings import job_settings

    ours = job_settings(site.job)
    with site.pool() as pool:
        before = _migrated(pool, ours)
        job_id = pool.apply(ours)
        after = pool.settings(ours.namespace, ours.job_type)
        others = [worker.name for worker in pool.workers(job_id) if worker.alive]
    if before is not None and (changed := differences(ours, before)):
        if after == before:
            _say(f"the job {ours.job_type} keeps its settings, which are of a later generation: {changed}")
        else:
            _say(f"the job {ours.job_type} is now as in {site.path}: {changed}")
    if others:
        names = ", ".join(others[:SHOWN_MAX]) + (", …" if len(others) > SHOWN_MAX else "")
        _say(
            f"{counted(len(others), 'worker')} of another run or a cluster {'works' if len(others) == 1 else 'work'} on"
            f" {ours.job_type} already, with the handler of its own file: {names}"
        )


def differences(ours: "JobSettings", theirs: "JobSettings") -> str:
    """Name the settings that differ, as `name ours (in the pool: theirs)`."""
    theirs = replace(theirs, generation=ours.generation)
    return ", ".join(
        f"{SETTINGS[field.name]} {_shown(mine)} (in the pool: {_shown(other)})"
        for field in fields(ours)
        if (mine := getattr(ours, field.name)) != (other := getattr(theirs, field.name))
    )


def _shown(value: object) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
    return str(value)


def _migrated(pool: "OwnerPool", ours: "JobSettings") -> "JobSettings | None":
    with migration_shown():
        pool.migrate()
    return pool.settings(ours.namespace, ours.job_type)


def _say(words: str) -> None:
    tell(printable(words))
