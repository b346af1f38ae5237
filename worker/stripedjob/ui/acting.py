"""What all actions have in common: who may act, on which job, asked for by this page, and then shown."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from stripedjob.pool.client import page as reads
from stripedjob.pool.client.bounded import BoundedPool
from stripedjob.pool.client.person import PersonPool
from stripedjob.pool.errors import PoolError
from stripedjob.text import counted, printable
from stripedjob.ui.deeds import Deed, Deeds
from stripedjob.ui.render import url
from stripedjob.ui.routes import JOB, RENDERER, WrongRequestError, job_of, name_in, page, viewer_of
from stripedjob.ui.security import Tokens, is_of_this_page

CALL_SECONDS_MAX = 30.0  # for one call, of a bounded number of units
WHY_MAX = 1_000  # characters, as on the command line
WAIT_SECONDS = 2.0  # for an action's end, before its page is shown meanwhile
DO = JOB + "/do/{action}"

Pool = BoundedPool[PersonPool]
Work = Callable[[Deed, Pool], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Job:
    """The job that an action is for, and who does it."""

    id: int
    namespace: str
    job_type: str
    who: str

    def __str__(self) -> str:
        """Name it, in words."""
        return f"job {printable(self.namespace)}/{printable(self.job_type)}"


@dataclass(frozen=True, slots=True)
class Acting:
    """What actions need: where the pool is, tokens, and the deeds."""

    postgres_url: str
    schema: str
    tokens: Tokens
    deeds: Deeds

    @asynccontextmanager
    async def pool(self) -> AsyncIterator[Pool]:
        """Connect; an action never waits for what viewers read."""
        async with BoundedPool.open(self.postgres_url, self.schema, PersonPool) as pool:
            yield pool


ACTING = web.AppKey("acting", Acting)


@asynccontextmanager
async def allowed(request: web.Request) -> AsyncIterator[tuple[Pool, Job]]:
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
        yield pool, Job(number, found["namespace"], found["job_type"], await viewer.name())


def asks(request: web.Request, template: str, title: str, **values: Any) -> web.Response:
    """Answer with the page that asks; its form comes back to this URL, with a token."""
    token = request.app[ACTING].tokens.make(request.path_qs)
    return page(request.app[RENDERER].form(template, title, token=token, to=request.path_qs, why_max=WHY_MAX, **values))


async def begin(request: web.Request, deed: Deed, work: Work) -> web.Response:
    """Do it, where this page has asked for it, and lead to the page that says what was done."""
    acting = request.app[ACTING]
    token = str((await request.post()).get("token", ""))
    if not is_of_this_page(request) or not acting.tokens.is_good(request.path_qs, token):
        words = "This was not asked for from this page, or the page was restarted since. Go back, and ask again."
        return page(request.app[RENDERER].words("Nothing was done", words), 403)

    async def connected(begun: Deed) -> None:
        async with acting.pool() as pool:
            await work(begun, pool)

    raise web.HTTPSeeOther(f"/jobs/{deed.job}/done/{await acting.deeds.begin(deed, connected, WAIT_SECONDS)}")


def resource_in(request: web.Request) -> str | None:
    """Return the resource in the query, where there is one; raises WrongRequestError."""
    return name_in(request.query, "resource") if "resource" in request.query else None


def unit_in(request: web.Request) -> int | None:
    """Return the unit's id in the query, where there is one; raises WrongRequestError."""
    unit = request.query.get("unit")
    if unit is not None and not (unit.isascii() and unit.isdigit() and len(unit) < 19):  # noqa: PLR2004 - an int8
        raise WrongRequestError("There is no such unit.")
    return None if unit is None else int(unit)


async def why_in(request: web.Request) -> str:
    """Return why it is to be done, as the form says; raises WrongRequestError."""
    why = str((await request.post()).get("why", "")).strip()
    if len(why) > WHY_MAX or "\0" in why:
        raise WrongRequestError(f"Why is a text of at most {WHY_MAX} characters.")
    return why


def cancelled(ended: int, asked: int) -> str:
    """Say how many units were cancelled."""
    runs = f"; {counted(asked, 'unit')} of leased resources: what runs of them is ended by its worker" if asked else ""
    return f"{counted(ended, 'unit')} {'is' if ended == 1 else 'are'} cancelled{runs}"


def back_to(request: web.Request, resource: str | None, unit: int | None, otherwise: str = "") -> str:
    """Return where an action was asked for."""
    job = job_of(request)
    if resource is not None:
        return url(f"/jobs/{job}/resource", name=resource)
    return f"/jobs/{job}/units/{unit}" if unit is not None and not otherwise else f"/jobs/{job}{otherwise}"
