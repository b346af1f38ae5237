"""The application: its parts put together, and errors made into pages with words."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web
from aiohttp.typedefs import Middleware

from stripedjob.locks import LockSettings, open_lock
from stripedjob.pool.errors import PoolError
from stripedjob.ui import acting, actions, acts, routes
from stripedjob.ui.access import Access, AccessError, Everybody
from stripedjob.ui.deeds import Deeds
from stripedjob.ui.live import Live
from stripedjob.ui.render import Renderer
from stripedjob.ui.security import OWN_HOSTS, Rights, Tokens, add_headers, host_of
from stripedjob.ui.source import Source

BODY_BYTES_MAX = 16_384

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Served:
    """Which pool is shown, and what may be done at most. `access`: who may do how much of it; None: everybody all.

    `lock`: where the locks of one of its jobs are, if that is known. `who`: what everybody is called, who acts.
    """

    postgres_url: str = field(repr=False)
    schema: str = "striped"
    rights: Rights = field(default_factory=Rights)
    hosts: frozenset[str] = OWN_HOSTS
    lock: LockSettings | None = None
    access: Access | None = None
    who: str = "somebody at the page"


def make_app(served: Served) -> web.Application:
    """Make the application; it connects when somebody looks."""
    renderer, deeds = Renderer(), Deeds()
    app = web.Application(middlewares=[_guarded(served.hosts), _worded], client_max_size=BODY_BYTES_MAX)
    app[routes.RENDERER] = renderer
    app[routes.ACCESS] = served.access or Everybody(served.rights, served.who)
    app[routes.PAYLOADS] = served.rights.payloads
    app[routes.STREAMS] = []
    app[acting.ACTING] = acting.Acting(served.postgres_url, served.schema, Tokens(), deeds)
    app.cleanup_ctx.append(_reading(served, deeds))
    app.on_response_prepare.append(add_headers)
    app.add_routes([*routes.routes(), *acts.routes(), *actions.routes()])
    return app


def _reading(served: Served, deeds: Deeds) -> Callable[[web.Application], AsyncIterator[None]]:
    async def reading(app: web.Application) -> AsyncIterator[None]:
        lock = open_lock(served.lock) if served.lock else None
        lock_job = (served.lock.namespace, served.lock.job_type) if served.lock else None
        source = Source(served.postgres_url, served.schema, deeds, lock, lock_job)
        live = app[routes.LIVE] = Live(source.read)
        yield
        await live.close()
        await deeds.close()
        await source.close()

    return reading


def _guarded(hosts: frozenset[str]) -> Middleware:
    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        if host_of(request) not in hosts:
            words = "This page is at http://127.0.0.1 alone. For another name, start it with --allow-host NAME."
            return routes.page(request.app[routes.RENDERER].words("Not here", words), 421)
        return await handler(request)

    return guarded


@web.middleware
async def _worded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer with a page where something is wrong."""
    renderer = request.app[routes.RENDERER]
    try:
        return await handler(request)
    except routes.WrongRequestError as error:
        return routes.page(renderer.words("There is no such page", str(error)), 400)
    except web.HTTPNotFound:
        return routes.page(renderer.words("There is no such page", "Begin with the list of jobs, above."), 404)
    except web.HTTPMethodNotAllowed:
        return routes.page(renderer.words("There is no such page", "This can be looked at, and no more."), 405)
    except AccessError as error:
        return routes.page(renderer.words("The API server", str(error)), 503)
    except PoolError as error:
        return routes.page(renderer.words("The database", f"{error}"), 503)
