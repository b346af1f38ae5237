"""A proxy on 127.0.0.1 that adds a bearer token, for `kubectl striped ui`: nothing else of a request is changed."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

from stripedjob.kubectl.call import KubectlError

HOP_BY_HOP = {
    *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding"),
    *("upgrade", "authorization", "content-length"),
}
HOSTS = {"127.0.0.1", "localhost"}
TOKEN_SECONDS = 300.0  # after which it is asked for again: those of cloud providers live for 15 minutes
BODY_BYTES_MAX = 65_536


@dataclass(slots=True)
class Token:
    """A token, asked for again now and then."""

    ask: Callable[[], str]
    _at: float = field(default=float("-inf"))
    _token: str = ""

    async def get(self) -> str:
        """Return it. Raises KubectlError."""
        if time.monotonic() - self._at > TOKEN_SECONDS:
            self._token = await asyncio.to_thread(self.ask)
            self._at = time.monotonic()
        return self._token


@asynccontextmanager
async def proxying(port: int, target: int, ask: Callable[[], str]) -> AsyncIterator[str]:
    """Listen on a port of this machine, 0: a free one, for what is at another; gives the URL. Raises KubectlError."""
    token = Token(ask)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
    async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session:

        async def handle(request: web.Request) -> web.StreamResponse:
            if request.url.host not in HOSTS:  # somebody else's name for this machine
                raise web.HTTPMisdirectedRequest
            try:
                return await _passed(request, session, target, await token.get())
            except (KubectlError, aiohttp.ClientError) as error:
                return web.Response(status=502, text=f"The page cannot be reached: {error}")

        app = web.Application(client_max_size=BODY_BYTES_MAX)
        app.router.add_route("*", "/{path:.*}", handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await _listening(runner, port)
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
        finally:
            await runner.cleanup()


async def _listening(runner: web.AppRunner, port: int) -> None:
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
    except OSError as error:
        raise KubectlError(f"port {port} of this machine: {error.strerror}; --port 0 takes a free one") from error


async def _passed(request: web.Request, session: aiohttp.ClientSession, target: int, token: str) -> web.StreamResponse:
    """Pass a request on, and its answer back as it comes: also a stream of events."""
    headers = [(name, value) for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP]
    headers.append(("Authorization", f"Bearer {token}"))
    async with session.request(
        request.method,
        f"http://127.0.0.1:{target}{request.raw_path}",
        headers=headers,
        data=await request.read() or None,
        allow_redirects=False,
    ) as answer:
        response = web.StreamResponse(status=answer.status, reason=answer.reason)
        response.headers.extend([it for it in answer.headers.items() if it[0].lower() not in HOP_BY_HOP])
        await response.prepare(request)
        async for part in answer.content.iter_any():
            await response.write(part)
        await response.write_eof()
        return response
