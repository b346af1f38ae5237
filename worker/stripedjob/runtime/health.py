"""Liveness, readiness and metrics over HTTP, in a thread of their own: a loop that hangs cannot hide it.

/livez: 200 while the main loop turns. /readyz: 200 while Postgres and the lock backend answer. /metrics: Prometheus.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from typing import Any, Protocol
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

Respond = Callable[[str, list[tuple[str, str]]], Any]


class Health(Protocol):
    """What is asked of the process that is served."""

    registry: CollectorRegistry

    def is_live(self) -> bool:
        """Say whether the main loop turns."""
        ...

    def problem(self) -> str | None:
        """Say what keeps it from being ready."""
        ...


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Silent(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(observer: Health, port: int, host: str = "") -> Iterator[int]:
    """Serve until the context ends; yields the port, which is a free one for 0. Raises OSError where it is taken."""
    metrics: Callable[[dict[str, Any], Respond], Iterable[bytes]] = make_wsgi_app(observer.registry)

    def app(environ: dict[str, Any], respond: Respond) -> Iterable[bytes]:
        match environ["PATH_INFO"]:
            case "/metrics":
                return metrics(environ, respond)
            case "/livez":
                return _answer(respond, None if observer.is_live() else "the main loop has stalled")
            case "/readyz":
                return _answer(respond, observer.problem())
        respond("404 Not Found", [("Content-Type", "text/plain")])
        return [b"there are /livez, /readyz and /metrics\n"]

    with make_server(host, port, app, _Server, _Silent) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.2,), daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def _answer(respond: Respond, problem: str | None) -> Iterable[bytes]:
    respond("503 Service Unavailable" if problem else "200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [(problem or "ok").encode() + b"\n"]
