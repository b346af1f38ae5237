"""What a URL shows: each handler makes a view of it, and `show` answers with a page, or with a stream of what changes.

A page and its stream have one URL: a browser's EventSource asks for text/event-stream.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from aiohttp import web
from aiohttp_sse import EventSourceResponse

from stripedjob.pool.client.page import FIRST, ID_MAX, Place, State
from stripedjob.ui.access import Access, Viewer, seen_by
from stripedjob.ui.live import Live, Look
from stripedjob.ui.render import STATIC, Renderer, static
from stripedjob.ui.views import (
    AsideView,
    DeedView,
    FindView,
    HistoryView,
    JobsView,
    JobView,
    ResourceView,
    UnitView,
    View,
    WorkerView,
)

LIVE = web.AppKey("live", Live)
ACCESS = web.AppKey("access", Access)
PAYLOADS = web.AppKey("payloads", bool)
RENDERER = web.AppKey("renderer", Renderer)
NAME_BYTES_MAX = 512  # of a resource, as the table `unit` has it
SEND_SECONDS_MAX = 10.0  # a viewer that takes nothing for so long is left, and comes again
PING_SECONDS = 10.0
ALIVE_SECONDS = 5.0  # a viewer that hears nothing for some times as long takes the connection for lost
STREAMS_MAX = 500
STREAMS = web.AppKey("streams", list[None])
STATES: Mapping[str, State] = {"held": "held", "dead": "dead"}
JOB = r"/jobs/{job:\d{1,9}}"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class WrongRequestError(Exception):
    """A URL that nobody has made here, with words for its page."""


def routes() -> list[web.RouteDef]:
    """Return what can be looked at."""
    return [
        web.get("/", _viewing(_jobs)),
        web.get("/find", _viewing(_find)),
        web.get(JOB, _viewing(lambda request: JobView(job_of(request)))),
        web.get(JOB + "/resource", _viewing(_resource)),
        web.get(JOB + r"/workers/{worker:\d{1,16}}", _viewing(_worker)),
        web.get(JOB + r"/units/{unit:\d{1,18}}", _viewing(_unit)),
        web.get(JOB + "/history", _viewing(_history)),
        web.get(JOB + "/{state:held|dead}", _viewing(_aside)),
        web.get(JOB + "/done/{deed}", _viewing(lambda it: DeedView(job_of(it), it.match_info["deed"]))),
        web.get("/static/{name}", _static),
    ]


def job_of(request: web.Request) -> int:
    """Return the number of the job in the URL."""
    return int(request.match_info["job"])


def name_in(query: Mapping[str, str], key: str) -> str:
    """Return a resource's name in a query; raises WrongRequestError for what cannot be one."""
    name = query.get(key, "")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        size = 0
    if not 1 <= size <= NAME_BYTES_MAX or "\0" in name:
        raise WrongRequestError(f"The name of a resource has 1 to {NAME_BYTES_MAX} bytes of text.")
    return name


def digest_in(query: Mapping[str, str]) -> str | None:
    """Return the digest of a reason in a query, None for all; raises WrongRequestError."""
    digest = query.get("reason")
    if digest is not None and (len(digest) != 32 or set(digest) - set("0123456789abcdef")):  # noqa: PLR2004 - md5's
        raise WrongRequestError("There is no such reason.")
    return digest


async def viewer_of(request: web.Request) -> Viewer:
    """Tell who looks; 401 where that is not known."""
    viewer = await request.app[ACCESS].viewer(request.headers)
    if viewer is None:
        words = "Who you are is not known: this page wants a bearer token, or a proxy that says who you are."
        text = request.app[RENDERER].words("Log in", words)
        raise web.HTTPUnauthorized(text=text, content_type="text/html", headers={"WWW-Authenticate": "Bearer"})
    return viewer


def page(text: str, status: int = 200) -> web.Response:
    """Answer with a page."""
    return web.Response(text=text, status=status, content_type="text/html")


async def show(request: web.Request, view: View) -> web.StreamResponse:
    """Answer with the view's page, or stream it."""
    viewer = await viewer_of(request)
    if "text/event-stream" in request.headers.get("Accept", ""):
        return await _stream(request, view, viewer)
    look = await request.app[LIVE].look(view)
    seen = await seen_by(viewer, view, look.data)
    status = 503 if look.trouble else 404 if seen.data is None else 200
    return page(request.app[RENDERER].page(view, seen, look.trouble), status)


async def _stream(request: web.Request, view: View, viewer: Viewer) -> web.StreamResponse:
    streams = request.app[STREAMS]
    if len(streams) >= STREAMS_MAX:
        return web.Response(status=503, text="too many pages are open")
    streams.append(None)
    try:
        async with request.app[LIVE].watch(view) as look:
            response = EventSourceResponse(send_timeout=SEND_SECONDS_MAX, ping_interval=PING_SECONDS)
            await response.prepare(request)
            async with response:
                await _send_changes(response, request.app[RENDERER], view, viewer, look)
    except (ConnectionError, TimeoutError):
        pass  # the viewer has gone, or takes nothing
    finally:
        streams.pop()
    return response


async def _send_changes(
    response: EventSourceResponse, renderer: Renderer, view: View, viewer: Viewer, look: Look
) -> None:
    """Send what a view shows, where it has changed; and its trouble, "" for none, also as a sign of life."""
    shown, number = "", 0
    while response.is_connected():
        is_new = await look.wait(number, ALIVE_SECONDS)
        await response.send(look.trouble, event="trouble")
        if not is_new:
            continue
        number = look.number
        seen = await seen_by(viewer, view, look.data)
        fragment = look.rendered((seen.rights, seen.key), partial(renderer.fragment, view, seen, look.trouble))
        if fragment != shown:
            shown = fragment
            await response.send(fragment, event="shown")


def _viewing(view_of: Callable[[web.Request], View]) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        return await show(request, view_of(request))

    return handler


def _jobs(request: web.Request) -> View:
    return JobsView((_text(request, "namespace"), _text(request, "type")))


def _find(request: web.Request) -> View:
    job = request.query.get("job")
    if job is not None and not (job.isascii() and job.isdigit() and len(job) < 10):  # noqa: PLR2004 - as in JOB
        raise WrongRequestError("There is no such job.")
    return FindView(int(job) if job else None, name_in({"q": request.query.get("q", "").strip()}, "q"))


def _resource(request: web.Request) -> View:
    return ResourceView(job_of(request), name_in(request.query, "name"), request.app[PAYLOADS])


def _worker(request: web.Request) -> View:
    return WorkerView(job_of(request), int(request.match_info["worker"]))


def _unit(request: web.Request) -> View:
    return UnitView(job_of(request), int(request.match_info["unit"]), request.app[PAYLOADS])


def _history(request: web.Request) -> View:
    unit, before = request.query.get("unit"), request.query.get("before", str(ID_MAX))
    for number in (unit or "1", before):
        if not (number.isascii() and number.isdigit() and int(number) <= ID_MAX):
            raise WrongRequestError("There is no such page of what happened.")
    resource = name_in(request.query, "resource") if "resource" in request.query else None
    return HistoryView(job_of(request), resource if unit is None else int(unit), int(before))


def _aside(request: web.Request) -> View:
    state = STATES[request.match_info["state"]]
    return AsideView(job_of(request), state, digest_in(request.query), _place(request))


def _place(request: web.Request) -> Place:
    if "after" not in request.query:
        return FIRST
    number = request.query.get("unit", "")
    if not (number.isascii() and number.isdigit() and int(number) <= ID_MAX):
        raise WrongRequestError("There is no such page of units.")
    return name_in(request.query, "after"), int(number)


def _text(request: web.Request, key: str) -> str:
    return name_in(request.query, key) if request.query.get(key) else ""


async def _static(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    if name not in STATIC:
        raise web.HTTPNotFound
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return web.Response(body=static(name)[0], content_type=STATIC[name], charset="utf-8", headers=headers)
