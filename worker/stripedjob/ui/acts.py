"""What can be done to work that waits or runs: cancel it, have it wait no longer, pause and resume; see actions.py.

An act is for a whole job, a resource, or a unit. It is a row of ACTS: what it says, whether it asks why, and how it is
done. It is asked for first, with what is there now, and reported afterwards: in numbers, or that it was so already.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiohttp import web

from stripedjob.pool.client import page as reads
from stripedjob.text import counted, printable
from stripedjob.ui import acting
from stripedjob.ui.acting import CALL_SECONDS_MAX, Job, Pool, allowed, back_to, resource_in, unit_in
from stripedjob.ui.deeds import Deed
from stripedjob.ui.routes import WrongRequestError


@dataclass(frozen=True, slots=True)
class Of:
    """What an act is for: a unit, a resource, or with neither the whole job."""

    resource: str | None
    unit: int | None

    def named(self, job: Job) -> str:
        """Name it, in words."""
        if self.unit is not None:
            return f"unit {self.unit} of {job}"
        return f"the resource {printable(self.resource)} of {job}" if self.resource is not None else f"{job}"


Told = Callable[[int, int], str]
Do = Callable[[Pool, Job, Of, str, Deed], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Act:
    """One thing to do. `does`: what becomes of it; `told`: what became of it, by the deed's two numbers."""

    verb: str
    does: str
    told: Told
    do: Do
    counts: bool  # and is for single units, too: it is done to so many, not done or not
    asks_why: bool


async def _cancel(pool: Pool, job: Job, of: Of, why: str, deed: Deed) -> None:
    """Cancel in steps, each of which counts at once: what was done before a failure is told."""
    ids = [] if of.unit is None else [of.unit]
    steps = await pool.call(lambda it: it.cancelling(job.id, of.resource, ids, job.who, why), CALL_SECONDS_MAX)
    while (step := await pool.call(lambda _: next(steps, None), CALL_SECONDS_MAX)) is not None:
        deed.units += step.ended
        deed.beside += step.asked


async def _hurry(pool: Pool, job: Job, of: Of, _why: str, deed: Deed) -> None:
    ids = [] if of.unit is None else [of.unit]
    steps = await pool.call(lambda it: it.hurrying(job.id, of.resource, ids, job.who), CALL_SECONDS_MAX)
    while (step := await pool.call(lambda _: next(steps, None), CALL_SECONDS_MAX)) is not None:
        deed.units += step[0]
        deed.beside += step[1]


async def _pause(pool: Pool, job: Job, of: Of, why: str, deed: Deed) -> None:
    deed.units = int(await pool.call(lambda it: it.pause(job.id, of.resource, job.who, why), CALL_SECONDS_MAX))


async def _resume(pool: Pool, job: Job, of: Of, _why: str, deed: Deed) -> None:
    deed.units = int(await pool.call(lambda it: it.resume(job.id, of.resource, job.who), CALL_SECONDS_MAX))


def _hurried(units: int, resources: int) -> str:
    return f"{counted(units, 'delayed unit')} and {counted(resources, 'waiting resource')} go on now"


ACTS = {
    "cancel": Act(
        "Cancel",
        "What waits is dead at once. What runs is ended by its worker, within seconds; what is done before that is "
        "done. Retry makes cancelled units ready again.",
        acting.cancelled,
        _cancel,
        counts=True,
        asks_why=True,
    ),
    "hurry": Act(
        "Retry now",
        "What was tried, and waits for another try or for a lock, goes on at once.",
        _hurried,
        _hurry,
        counts=True,
        asks_why=False,
    ),
    "pause": Act(
        "Pause",
        "Nothing of it is claimed until somebody resumes it. What runs ends, and units come in as before.",
        lambda changed, _: "It is paused" if changed else "It was paused already, and stays so as it was",
        _pause,
        counts=False,
        asks_why=True,
    ),
    "resume": Act(
        "Resume",
        "It goes on at once.",
        lambda changed, _: "It goes on" if changed else "It was not paused",
        _resume,
        counts=False,
        asks_why=False,
    ),
}


def routes() -> list[web.RouteDef]:
    """Return where acts are asked for and done: before those of actions.py, which take any name."""
    path = acting.DO.replace("{action}", f"{{action:{'|'.join(ACTS)}}}")
    return [web.get(path, _ask), web.post(path, _do)]


async def _ask(request: web.Request) -> web.Response:
    """Say what would be done to what, and ask."""
    act, of = _wanted(request)
    async with allowed(request) as (pool, job):
        there = await pool.call(partial(_there, job.id, of), CALL_SECONDS_MAX)
    values = {"act": act, "of": of.named(job), "there": there}
    return acting.asks(request, "act.html", f"{act.verb}?", **values, back=back_to(request, of.resource, of.unit))


async def _do(request: web.Request) -> web.StreamResponse:
    """Do it; the answer is a page of what was done."""
    act, of = _wanted(request)
    why = await acting.why_in(request)
    async with allowed(request) as (_, job):
        pass

    async def work(deed: Deed, pool: Pool) -> None:
        await act.do(pool, job, of, why, deed)

    title, back = f"{act.verb} {of.named(job)}", back_to(request, of.resource, of.unit)
    return await acting.begin(request, Deed(job.id, job.namespace, title, act.told, back, act.counts), work)


def _wanted(request: web.Request) -> tuple[Act, Of]:
    """Read which act is meant for what; raises WrongRequestError."""
    act = ACTS[request.match_info["action"]]
    of = Of(resource_in(request), unit_in(request))
    if set(request.query) - {"resource", "unit"} or (
        of.unit is not None and (of.resource is not None or not act.counts)
    ):
        raise WrongRequestError("There is no such action.")
    return act, of


def _there(job: int, of: Of, pool: Any) -> str:
    """Say what of it is there now."""
    if of.unit is not None:
        unit = reads.unit(pool, job, of.unit, payloads=False)
        return f"It is {unit['state']} now" if unit and unit["state"] else "It is not there: done and removed"
    if of.resource is None:
        numbers = pool.status(job)
        found = (numbers.pending, numbers.delayed, numbers.held)
    else:
        facts = pool.explain(job, of.resource)
        found = (facts["ready"], facts["delayed"], facts["held"])
    return "There are now: {:,} ready, {:,} delayed and {:,} held units".format(*found)
