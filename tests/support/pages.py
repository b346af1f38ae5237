"""The page in the hands of a test: a pool with something of everything, and a server for it in a thread."""

from __future__ import annotations

import asyncio
import http.client
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from tests.support.queues import FIFO, Queue, queue

from stripedjob.pool.types import Failure, Fate, Lease, Then
from stripedjob.ui.serve import serving

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from stripedjob.ui.app import Served

START_SECONDS_MAX = 90
IN_PAYLOADS = "swordfish"  # and nowhere else
HOSTILE = (
    "<script>document.title='taken'</script>",
    "\"><img src=x onerror=document.title='taken'>",
    "../../jobs?x=1&name=2#3",
    "a/%2F/..%2f/b",
    "line\nbreak\ttab\x1b[31m\x07",
    "\u202etxt.exe\u2066 bidi",
    "😀" * 128,  # 512 bytes
    "{{ 7*7 }}{% raw %}",
    " ",
)
JOB = replace(FIFO, on_failure="Skip")


def fill(pool: Queue) -> None:
    """Make a worker with a lease, and resources that are ready, wait, and have dead and held units."""
    for name in ("busy", "late", "held/1", "dead-1", "dead-2", *HOSTILE):
        pool.put(name, payload=f'"{IN_PAYLOADS}"')
    worker = pool.worker("w<1>")
    leases = pool.take_all(worker, units=1)
    _fail(pool, worker, leases["late"], Fate.READY, then=Then.WAIT, wait_seconds=3600.0)
    _fail(pool, worker, leases["held/1"], Fate.HELD)
    for name in ("dead-1", "dead-2", *HOSTILE):
        _fail(pool, worker, leases[name], Fate.DEAD)
    pool.put("ready-1")
    pool.put("later", due_in=3600)
    pool.runner.run(pool.pool.upkeep(pool.job_id))


def _fail(pool: Queue, worker: int, lease: Lease, to: Fate, **how: Any) -> None:
    reason = f"{lease.resource}: <b>no</b>" if lease.resource in HOSTILE else "ValueError: no such price"
    failed = Failure(lease.ids[0], to, 1, 0, reason, trace='File "x.py", line 1\n  <i>price</i>')
    pool.end(worker, lease, **{"then": Then.IDLE, "done": (), "failed": (failed,)} | how)


@contextmanager
def filled(url: str) -> Iterator[Queue]:
    """Yield a pool that was filled."""
    with queue(url, JOB) as pool:
        fill(pool)
        yield pool


@contextmanager
def page_of(served: Served, port: int = 0) -> Iterator[str]:
    """Serve the page in a thread of its own; yields its URL, without the last slash."""
    loop, stop, started = asyncio.new_event_loop(), asyncio.Event(), threading.Event()
    found: list[str] = []

    async def serve() -> None:
        async with serving(served, port) as url:
            found.append(url.rstrip("/"))
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    try:
        assert started.wait(START_SECONDS_MAX)
        yield found[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(START_SECONDS_MAX)
        loop.close()


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    text: str


@dataclass
class Page:
    base: str

    def ask(self, path: str, headers: dict[str, str] | None = None, form: dict[str, str] | None = None) -> Answer:
        conn = http.client.HTTPConnection(urlsplit(self.base).netloc, timeout=30)
        try:
            body = None if form is None else urlencode(form)
            kind = {} if form is None else {"Content-Type": "application/x-www-form-urlencoded"}
            conn.request("GET" if form is None else "POST", path, body, kind | (headers or {}))
            answer = conn.getresponse()
            return Answer(answer.status, dict(answer.headers), answer.read().decode())
        finally:
            conn.close()

    def do(self, path: str, **fields: str) -> str:
        """Go through the page that asks; gives what is said afterwards."""
        answer = self.ask(path, form={"token": token_of(self.ask(path))} | fields)
        assert answer.status == 303
        return self.ask(answer.headers["Location"]).text


def token_of(answer: Answer) -> str:
    found = re.search(r'name="token" value="(\w+)"', answer.text)
    assert found
    return found[1]
