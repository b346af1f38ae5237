"""What can be done to units that are set aside: a table of actions, each asked for first and reported afterwards.

An action is a row of ACTIONS: its name, which units it is for, what it says, and the call of the pool that does it to
some of them. Nothing else has to be written for one.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from aiohttp import web

from stripedjob.pool.client import page as reads
from stripedjob.pool.client.bounded import BoundedPool
from stripedjob.pool.client.page import FIRST, Chosen, Place, State
from stripedjob.pool.client.person import PersonPool
from stripedjob.pool.errors import PoolError
from stripedjob.text import counted, printable
from stripedjob.ui.deeds import Deed, Deeds
from stripedjob.ui.render import url
from stripedjob.ui.routes import (
    JOB,
    RENDERER,
    STATES,
    WrongRequestError,
    digest_in,
    job_of,
    name_in,
    page,
    viewer_of,
)
from stripedjob.ui.security import Tokens, is_of_this_page

CALL_SECONDS_MAX = 30.0  # for one call, of at most reads.CHOSEN_MAX units
COUNT_MAX = 100_000  # as far as units are counted before somebody is asked
WAIT_SECONDS = 2.0  # for an action's end, before its page is shown meanwhile

Run = Callable[[int, State, Sequence[int], PersonPool], int]


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do to units. `does` and `done` say what becomes of them; `verb` is on the button."""

    verb: str
    states: tuple[State, ...]
    does: str
    done: str
    run: Run


class Job(NamedTuple):
    """The job that an action is for."""

    id: int
    namespace: str
    job_type: str


@dataclass(frozen=True, slots=True)
class Acting:
    """What actions need: where the pool is, tokens, and the deeds."""

    postgres_url: str
    schema: str
    tokens: Tokens
    deeds: Deeds

    @asynccontextmanager
    async def pool(self) -> AsyncIterator[BoundedPool[PersonPool]]:
        """Connect; an action never waits for what viewers read."""
        async with BoundedPool.open(self.postgres_url, self.schema, PersonPool) as pool:
            yield pool


ACTING = web.AppKey("acting", Acting)


def _revive(job: int, state: State, ids: Sequence[int], pool: PersonPool) -> int:
    return pool.revive(job, state, None, ids)


def _purge(job: int, state: State, ids: Sequence[int], pool: PersonPool) -> int:
    return pool.purge(job, state, None, ids)


ACTIONS = {
    "retry": Action("Retry", ("dead",), "They become ready again, with all their attempts.", "ready again", _revive),
    "release": Action(
        "Release", ("held",), "They become ready again, with all their attempts.", "ready again", _revive
    ),
    "purge": Action("Purge", ("held", "dead"), "They are removed for good, with their payloads.", "removed", _purge),
}


def routes() -> list[web.RouteDef]:
    """Give where actions are asked for and done."""
    path = JOB + "/do/{action}"
    return [web.get(path, _ask), web.post(path, _do)]


async def _ask(request: web.Request) -> web.Response:
    """Say what would be done to how many units, and ask."""
    action, chosen = _wanted(request)
    async with _allowed(request) as (pool, job):
        units, is_more, first = await _count(pool, job.id, chosen)
        reason = await _reason(pool, job.id, first) if chosen.digest else None
    text = request.app[RENDERER].form(
        "confirm.html",
        f"{action.verb}?",
        action=action,
        units=f"more than {units:,} {chosen.state} units" if is_more else counted(units, f"{chosen.state} unit"),
        are_none=not units,
        of=_of(chosen, reason, job),
        token=request.app[ACTING].tokens.make(request.path_qs),
        to=request.path_qs,
        back=_back(request, chosen),
    )
    return page(text)


async def _do(request: web.Request) -> web.StreamResponse:
    """Do it; the answer is a page of what was done."""
    action, chosen = _wanted(request)
    acting = request.app[ACTING]
    token = (await request.post()).get("token", "")
    async with _allowed(request) as (_, job):
        if not is_of_this_page(request) or not acting.tokens.is_good(request.path_qs, str(token)):
            words = "This was not asked for from this page, or the page was started anew since. Go back, and ask again."
            return page(request.app[RENDERER].words("Nothing was done", words), 403)

    async def work(deed: Deed) -> None:
        after: Place | None = FIRST
        async with acting.pool() as pool:
            while after is not None:
                ids, after = await _choose(pool, job.id, chosen, after)
                if ids:
                    deed.units += await pool.call(partial(action.run, job.id, chosen.state, ids), CALL_SECONDS_MAX)

    title = f"{action.verb} {chosen.state} units{_of(chosen, None, job)}"
    deed = Deed(job.id, job.namespace, title, action.done, _back(request, chosen))
    raise web.HTTPSeeOther(f"/jobs/{job.id}/done/{await acting.deeds.begin(deed, work, WAIT_SECONDS)}")


@asynccontextmanager
async def _allowed(request: web.Request) -> AsyncIterator[tuple[BoundedPool[PersonPool], Job]]:
    """Connect, and give the job in the URL; 403 where the viewer may not act on it. Raises PoolError, AccessError."""
    viewer = await viewer_of(request)
    async with request.app[ACTING].pool() as pool:
        number = job_of(request)
        found = await pool.call(lambda it: reads.name(it, number), CALL_SECONDS_MAX)
        rights = await viewer.rights(found["namespace"]) if found else None
        if found is None or rights is None:
            raise PoolError("there is no such job in this pool")
        if not rights.actions:
            words = "You may look at this, and not change it. Where you start the page: stripedjob ui --allow-actions"
            raise web.HTTPForbidden(text=request.app[RENDERER].words("Not allowed", words), content_type="text/html")
        yield pool, Job(number, found["namespace"], found["job_type"])


def _wanted(request: web.Request) -> tuple[Action, Chosen]:
    """Read which action is meant for which units; raises WrongRequestError."""
    action, state = ACTIONS.get(request.match_info["action"]), STATES.get(request.query.get("state", ""))
    if action is None or state not in action.states:
        raise WrongRequestError("There is no such action.")
    resource = name_in(request.query, "resource") if "resource" in request.query else None
    unit = request.query.get("unit")
    if unit is not None and not (unit.isascii() and unit.isdigit() and len(unit) < 19):  # noqa: PLR2004 - an int8
        raise WrongRequestError("There is no such unit.")
    return action, Chosen(state, digest_in(request.query), resource, int(unit) if unit else None)


async def _choose(
    pool: BoundedPool[PersonPool], job: int, chosen: Chosen, after: Place
) -> tuple[list[int], Place | None]:
    return await pool.call(lambda it: reads.choose(it, job, chosen, after), CALL_SECONDS_MAX)


async def _count(pool: BoundedPool[PersonPool], job: int, chosen: Chosen) -> tuple[int, bool, int | None]:
    """Count the units; gives whether there may be more than were counted, and the first one's id, too."""
    units, first, looked = 0, None, 0
    after: Place | None = FIRST
    while after is not None and looked < COUNT_MAX:
        ids, after = await _choose(pool, job, chosen, after)
        units += len(ids)
        looked += reads.CHOSEN_MAX
        first = first or (ids[0] if ids else None)
    return units, after is not None, first


async def _reason(pool: BoundedPool[PersonPool], job: int, unit: int | None) -> str | None:
    if unit is None:
        return None
    found = await pool.call(lambda it: reads.unit(it, job, unit, payloads=False), CALL_SECONDS_MAX)
    return found and str(found["reason"])


def _of(chosen: Chosen, reason: str | None, job: Job) -> str:
    parts = [f" of job {printable(job.namespace)}/{printable(job.job_type)}"]
    if chosen.resource is not None:
        parts.append(f", of the resource {printable(chosen.resource)}")
    if chosen.unit is not None:
        parts.append(f": unit {chosen.unit}")
    if chosen.digest is not None:
        parts.append(f", for this reason: {printable(reason[:300])}" if reason else ", for one reason")
    return "".join(parts)


def _back(request: web.Request, chosen: Chosen) -> str:
    job = job_of(request)
    if chosen.resource is not None:
        return url(f"/jobs/{job}/resource", name=chosen.resource)
    return url(f"/jobs/{job}/{chosen.state}")
