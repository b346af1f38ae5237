"""Serves the page, on 127.0.0.1 unless told otherwise, until it is told to stop."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from stripedjob.ui.app import Served, make_app

HOST = "127.0.0.1"
SHUTDOWN_SECONDS = 1.0  # for requests under way; streams have no end of their own


@asynccontextmanager
async def serving(served: Served, port: int, host: str = HOST) -> AsyncIterator[str]:
    """Serve while the context is open; yields the URL. `port` 0: a free one. Raises OSError where it is taken."""
    runner = web.AppRunner(
        make_app(served), access_log=None, handler_cancellation=True, shutdown_timeout=SHUTDOWN_SECONDS
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield f"http://{host}:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()
