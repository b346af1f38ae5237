"""What can be done to units that are set aside: a table of actions, each asked for first and reported afterwards.

An action is a row of ACTIONS: its name, which units it is for, what it says, and the call of the pool that does it to
some of them. Nothing else has to be written for one. What is done to work that waits or runs is in acts.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from aiohttp import web

from stripedjob.pool.client import page as reads
from stripedjob.pool.client.page import FIRST, Chosen, Place, State
from stripedjob.pool.client.person import PersonPool
from stripedjob.text import counted, printable
from stripedjob.ui import acting
from stripedjob.ui.acting import CALL_SECONDS_MAX, Job, Pool, allowed, back_to, resource_in, unit_in
from stripedjob.ui.deeds import Deed
from stripedjob.ui.routes import STATES, WrongRequestError, digest_in

COUNT_MAX = 100_000  # as far as units are counted before somebody is asked

Told = Callable[[int, int], str]
Run = Callable[[Job, State, Sequence[int], str, PersonPool], tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do to units. `does` and `told` say what becomes of them; `verb` is on the button.

    `run` gives the two numbers of the deed, which `told` puts into words; its text is why, where the action asks that.
    """

    verb: str
    states: tuple[State, ...]
    does: str
    told: Told
    run: Run
    asks_why: bool = False


def _revive(job: Job, state: State, ids: Sequence[int], _why: str, pool: PersonPool) -> tuple[int, int]:
    return pool.revive(job.id, state, None, ids, job.who), 0


def _purge(job: Job, state: State, ids: Sequence[int], _why: str, pool: PersonPool) -> tuple[int, int]:
    return pool.purge(job.id, state, None, ids, job.who), 0


def _cancel(job: Job, state: State, ids: Sequence[int], why: str, pool: PersonPool) -> tuple[int, int]:
    done = pool.cancel(job.id, None, ids, job.who, why, only=state)
    return done.ended, done.asked


def _are(done: str) -> Told:
    return lambda units, _: f"{counted(units, 'unit')} {'is' if units == 1 else 'are'} {done}"


READY = "They become ready again, with all their attempts."
GONE = "They are removed for good, with their payloads."
ACTIONS = {
    "retry": Action("Retry", ("dead",), READY, _are("ready again"), _revive),
    "release": Action("Release", ("held",), READY, _are("ready again"), _revive),
    "purge": Action("Purge", ("held", "dead"), GONE, _are("removed"), _purge),
    "cancel-held": Action(  # acts.py has "cancel", which is for whatever is not done
        "Cancel",
        ("held",),
        "They are dead at once. Retry makes cancelled units ready again.",
        acting.cancelled,
        _cancel,
        asks_why=True,
    ),
}


def routes() -> list[web.RouteDef]:
    """Return where actions are asked for and done."""
    return [web.get(acting.DO, _ask), web.post(acting.DO, _do)]


async def _ask(request: web.Request) -> web.Response:
    """Say what would be done to how many units, and ask."""
    action, chosen = _wanted(request)
    async with allowed(request) as (pool, job):
        units, is_more, first = await _count(pool, job.id, chosen)
        reason = await _reason(pool, job.id, first) if chosen.digest else None
    return acting.asks(
        request,
        "confirm.html",
        f"{action.verb}?",
        action=action,
        units=f"more than {units:,} {chosen.state} units" if is_more else counted(units, f"{chosen.state} unit"),
        are_none=not units,
        of=_of(chosen, reason, job),
        back=_back(request, chosen),
    )


async def _do(request: web.Request) -> web.StreamResponse:
    """Do it; the answer is a page of what was done."""
    action, chosen = _wanted(request)
    why = await acting.why_in(request)
    async with allowed(request) as (_, job):
        pass

    async def work(deed: Deed, pool: Pool) -> None:
        after: Place | None = FIRST
        while after is not None:
            ids, after = await _choose(pool, job.id, chosen, after)
            if ids:
                units, asked = await pool.call(partial(action.run, job, chosen.state, ids, why), CALL_SECONDS_MAX)
                deed.units += units
                deed.beside += asked

    title = f"{action.verb} {chosen.state} units{_of(chosen, None, job)}"
    return await acting.begin(request, Deed(job.id, job.namespace, title, action.told, _back(request, chosen)), work)


def _wanted(request: web.Request) -> tuple[Action, Chosen]:
    """Read which action is meant for which units; raises WrongRequestError."""
    action, state = ACTIONS.get(request.match_info["action"]), STATES.get(request.query.get("state", ""))
    if action is None or state not in action.states:
        raise WrongRequestError("There is no such action.")
    return action, Chosen(state, digest_in(request.query), resource_in(request), unit_in(request))


async def _choose(pool: Pool, job: int, chosen: Chosen, after: Place) -> tuple[list[int], Place | None]:
    return await pool.call(lambda it: reads.choose(it, job, chosen, after), CALL_SECONDS_MAX)


async def _count(pool: Pool, job: int, chosen: Chosen) -> tuple[int, bool, int | None]:
    """Count the units; gives whether there may be more than were counted, and the first one's id, too."""
    units, first, looked = 0, None, 0
    after: Place | None = FIRST
    while after is not None and looked < COUNT_MAX:
        ids, after = await _choose(pool, job, chosen, after)
        units += len(ids)
        looked += reads.CHOSEN_MAX
        first = first or (ids[0] if ids else None)
    return units, after is not None, first


async def _reason(pool: Pool, job: int, unit: int | None) -> str | None:
    if unit is None:
        return None
    found = await pool.call(lambda it: reads.unit(it, job, unit, payloads=False), CALL_SECONDS_MAX)
    return found and str(found["reason"])


def _of(chosen: Chosen, reason: str | None, job: Job) -> str:
    parts = [f" of {job}"]
    if chosen.resource is not None:
        parts.append(f", of the resource {printable(chosen.resource)}")
    if chosen.unit is not None:
        parts.append(f": unit {chosen.unit}")
    if chosen.digest is not None:
        parts.append(f", for this reason: {printable(reason[:300])}" if reason else ", for one reason")
    return "".join(parts)


def _back(request: web.Request, chosen: Chosen) -> str:
    return back_to(request, chosen.resource, chosen.unit, f"/{chosen.state}")
