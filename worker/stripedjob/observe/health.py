"""Liveness, readiness and metrics over HTTP, in a thread of their own: a loop that hangs cannot hide it.

/livez: 200 while the main loop turns. /readyz: 200 while Postgres and the lock backend answer. /metrics: Prometheus.
A connection serves one request. One that says nothing costs no thread, and is closed after a time, or for newer ones.
"""

import asyncio
import errno
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Protocol

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

REQUEST_SECONDS_MAX = 5.0  # for a request to come, and its answer to go
REQUEST_BYTES_MAX = 16_384
CONNECTIONS_MAX = 64  # then the oldest is closed
NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
TEXT = "text/plain; charset=utf-8"


class Health(Protocol):
    """What is asked of the process that is served."""

    def is_live(self) -> bool:
        """Return whether the main loop turns."""
        ...

    def problem(self) -> str | None:
        """Say what keeps it from being ready."""
        ...


@contextmanager
def serving(observer: Health, registry: CollectorRegistry, port: int, host: str = "") -> Iterator[int]:
    """Serve until the context ends; yields the port, which is a free one for 0. Raises OSError where it is taken.

    `host` "": on all addresses, of IPv6 too where the machine has it.
    """
    with _listening(host, port) as sock:
        loop, stop = asyncio.new_event_loop(), asyncio.Event()
        serve = _Server(observer, registry).serve(sock, stop)
        thread = threading.Thread(target=lambda: loop.run_until_complete(serve), daemon=True)
        thread.start()
        try:
            yield sock.getsockname()[1]
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join()
            loop.close()


def _listening(host: str, port: int) -> socket.socket:
    if not host and socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        except OSError as error:
            if error.errno not in NO_IPV6:
                raise
    return socket.create_server((host, port))


class _Server:
    """Answers requests, one for each connection."""

    def __init__(self, observer: Health, registry: CollectorRegistry) -> None:
        self._observer, self._registry = observer, registry
        self._open: dict[asyncio.StreamWriter, None] = {}  # in the order of their coming

    async def serve(self, sock: socket.socket, stop: asyncio.Event) -> None:
        server = await asyncio.start_server(self._talk, sock=sock, limit=REQUEST_BYTES_MAX)
        await stop.wait()
        server.close()
        for writer in self._open:
            writer.transport.abort()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while len(self._open) >= CONNECTIONS_MAX:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.transport.abort()
        self._open[writer] = None
        try:
            async with asyncio.timeout(REQUEST_SECONDS_MAX):
                request = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._answer(request))
                await writer.drain()
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            writer.transport.abort()
        finally:
            self._open.pop(writer, None)
            writer.close()

    def _answer(self, request: bytes) -> bytes:
        method, _, rest = request.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        status, kind, body = self._look(path)
        head = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        return f"{head}Connection: close\r\n\r\n".encode() + (b"" if method == b"HEAD" else body)

    def _look(self, path: bytes) -> tuple[HTTPStatus, str, bytes]:
        match path:
            case b"/metrics":
                return HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(self._registry)
            case b"/livez":
                return _said(None if self._observer.is_live() else "the main loop has stalled")
            case b"/readyz":
                return _said(self._observer.problem())
        return HTTPStatus.NOT_FOUND, TEXT, b"there are /livez, /readyz and /metrics\n"


def _said(problem: str | None) -> tuple[HTTPStatus, str, bytes]:
    status = HTTPStatus.SERVICE_UNAVAILABLE if problem else HTTPStatus.OK
    return status, TEXT, (problem or "ok").encode(errors="replace") + b"\n"
