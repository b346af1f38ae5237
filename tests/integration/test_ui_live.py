"""How the page stays as the pool is: one poller for all who look, and words where the database is away."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psycopg
import pytest
from tests.support.pages import HOSTILE, Page, filled, page_of
from tests.support.queues import queue
from tests.support.runs import await_

from stripedjob.pool.client.bounded import BoundedPool
from stripedjob.ui.app import Served
from stripedjob.ui.render import Renderer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.engines import RestartablePostgres
    from tests.support.queues import Queue

    from stripedjob.ui.access import Seen
    from stripedjob.ui.views import View

QUERIES_PER_SECOND_MAX = 5
LOOKED_SECONDS = 4.0


@dataclass
class Viewer:
    """Somebody who has a view open: the events that came, as (name, data)."""

    base: str
    path: str
    events: list[tuple[str, str]] = field(default_factory=list)

    @contextmanager
    def looking(self) -> Iterator[Viewer]:
        conn = http.client.HTTPConnection(urlsplit(self.base).netloc, timeout=60)
        conn.request("GET", self.path, headers={"Accept": "text/event-stream"})
        answer = conn.getresponse()
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        sock = conn.sock
        reader = threading.Thread(target=self._read, args=[answer], daemon=True)
        reader.start()
        try:
            yield self
        finally:
            sock.shutdown(socket.SHUT_WR)  # what is on its way is still read, up to the page's end of it
            reader.join(10)
            conn.close()

    def shown(self) -> str:
        return next((data for name, data in reversed(self.events) if name == "shown"), "")

    def trouble(self) -> str:
        return next((data for name, data in reversed(self.events) if name == "trouble"), "")

    def _read(self, answer: http.client.HTTPResponse) -> None:
        name, data = "", []
        while line := answer.readline().decode():
            kind, _, value = line.rstrip("\r\n").partition(": ")
            if kind == "event":
                name = value
            elif kind == "data":
                data.append(value)
            elif not kind and data:
                self.events.append((name, "\n".join(data)))
                name, data = "", []


@pytest.fixture(scope="module")
def pool(queue_database: str) -> Iterator[Queue]:
    with filled(queue_database) as made:
        yield made


@pytest.fixture
def base(pool: Queue) -> Iterator[str]:
    with page_of(Served(pool.url)) as base:
        yield base


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When the page has asked the pool."""
    at: list[float] = []
    call = BoundedPool.call

    async def counted(self: BoundedPool[Any], *args: Any) -> Any:
        at.append(time.monotonic())
        return await call(self, *args)

    monkeypatch.setattr(BoundedPool, "call", counted)
    return at


def test_what_changes_comes_by_itself(pool: Queue, base: str) -> None:
    with Viewer(base, f"/jobs/{pool.job_id}/resource?name=new").looking() as viewer:
        await_("the first look", lambda: "nothing to do" in viewer.shown())
        pool.put("new")
        await_("the change", lambda: "new units" in viewer.shown())
    assert not [data for name, data in viewer.events if name == "shown" and "<html" in data]


def test_a_hostile_name_is_no_event_of_its_own(pool: Queue, base: str) -> None:
    with Viewer(base, f"/jobs/{pool.job_id}/dead").looking() as viewer:
        await_("the list", lambda: "line\\nbreak" in viewer.shown())
    assert {name for name, _ in viewer.events} == {"shown", "trouble"}
    assert len(HOSTILE) == sum(one in viewer.shown() for one in ("script&gt;", "img src", "../../", "%2F", "\\nbreak",
        "\\u202e", "😀😀", "7*7", "&#34; &#34;"))  # fmt: skip


def test_any_number_of_viewers_costs_few_queries_and_none_costs_none(
    pool: Queue, base: str, reads: list[float]
) -> None:
    paths = ["/", f"/jobs/{pool.job_id}", *(f"/jobs/{pool.job_id}/resource?name={n % 10}" for n in range(40))]
    with ExitStack() as stack:
        viewers = [stack.enter_context(Viewer(base, path).looking()) for path in paths]
        await_("all views", lambda: all(viewer.shown() for viewer in viewers))
        began = len(reads)
        time.sleep(LOOKED_SECONDS)
        count = len(reads) - began
        assert 0 < count < QUERIES_PER_SECOND_MAX * LOOKED_SECONDS
    await_("the end of the last read", lambda: time.monotonic() - reads[-1] > 2)


def test_what_many_look_at_is_rendered_once(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rendered: list[str] = []
    render = Renderer.fragment

    def counted(self: Renderer, view: View, seen: Seen, trouble: str) -> str:
        rendered.append(seen.data["now"])
        return render(self, view, seen, trouble)

    monkeypatch.setattr(Renderer, "fragment", counted)
    with ExitStack() as stack:
        for viewer in [stack.enter_context(Viewer(base, "/").looking()) for _ in range(20)]:
            await_("a look", viewer.shown)
        await_("some more", lambda: len(rendered) > 3)
    assert len(rendered) == len(set(rendered))


def test_pages_that_are_opened_at_once_are_read_once(pool: Queue, base: str, reads: list[float]) -> None:
    page = Page(base)
    threads = [threading.Thread(target=page.ask, args=[f"/jobs/{pool.job_id}"]) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reads) <= 2


def test_a_database_that_goes_away_is_told_and_comes_back(restartable_postgres: RestartablePostgres) -> None:
    url = restartable_postgres.url
    with queue(url) as made:
        made.put("a")
        path = f"/jobs/{made.job_id}"
    with page_of(Served(url)) as base, Viewer(base, path).looking() as viewer:
        await_("the first look", lambda: "default/sync" in viewer.shown())
        restartable_postgres.kill()
        await_("the trouble", viewer.trouble)
        answer = Page(base).ask("/")
        assert answer.status == 503
        assert "The database cannot be asked" in answer.text
        assert Page(base).ask(path).status == 503
        assert "default/sync" in Page(base).ask(path).text  # as it was
        restartable_postgres.start()
        await_("the end of the trouble", lambda: not viewer.trouble())
        await_("the list of jobs again", lambda: Page(base).ask("/").status == 200)


def test_a_pool_that_is_not_there_is_a_page_with_words(fresh_database: str) -> None:
    with page_of(Served(fresh_database)) as base:
        answer = Page(base).ask("/")
        assert answer.status == 503
        assert "stripedjob migrate" in answer.text


def test_a_viewer_who_takes_nothing_keeps_nobody_waiting(pool: Queue, base: str) -> None:
    parts = urlsplit(base)
    head = f"GET /jobs/{pool.job_id}/dead HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept: text/event-stream\r\n\r\n"
    with socket.create_connection((parts.hostname, parts.port)) as mute:
        mute.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        mute.sendall(head.encode())
        with Viewer(base, "/").looking() as viewer:
            await_("a look of another", viewer.shown)


def test_the_page_ends_at_once_though_somebody_looks(pool: Queue) -> None:
    with ExitStack() as stack:
        with page_of(Served(pool.url)) as base:
            viewer = stack.enter_context(Viewer(base, "/").looking())
            await_("a look", viewer.shown)
            began = time.monotonic()
        assert time.monotonic() - began < 10
    with psycopg.connect(pool.url, autocommit=True) as conn:
        others = """select count(*) from pg_stat_activity
            where datname = current_database() and application_name = 'stripedjob'"""
        await_("the end of its sessions", lambda: conn.execute(others).fetchone() == (1,))  # the queue's own
