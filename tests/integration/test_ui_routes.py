"""Every route of the page with every right, hostile names in URLs, forged requests, and what is not there."""

from __future__ import annotations

import re
from contextlib import ExitStack
from html import unescape
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest
from tests.support.pages import HOSTILE, IN_PAYLOADS, Answer, Page, filled, page_of, token_of

from stripedjob.text import printable
from stripedjob.ui.app import Served
from stripedjob.ui.render import named, static
from stripedjob.ui.security import Rights

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.queues import Queue

RIGHTS = {"nothing": Rights(), "actions": Rights(actions=True), "payloads": Rights(payloads=True)}
VIEWS = {
    "jobs": "/",
    "jobs further on": "/?namespace=a&type=b",
    "job": "/jobs/{job}",
    "worker": "/jobs/{job}/workers/{worker}",
    "resource": "/jobs/{job}/resource?name=dead-1",
    "resource that is busy": "/jobs/{job}/resource?name=busy",
    "resource that waits": "/jobs/{job}/resource?name=late",
    "resource that nobody knows": "/jobs/{job}/resource?name=nobody",
    "unit": "/jobs/{job}/units/{dead}",
    "dead": "/jobs/{job}/dead",
    "dead further on": "/jobs/{job}/dead?after=dead-1&unit=1",
    "held": "/jobs/{job}/held",
    "found": "/find?q=busy",
    "found in a job": "/find?q={dead}&job={job}",
    "not found": "/find?q=nobody",
    "found by its beginning": "/find?q=dea",
    "what happened": "/jobs/{job}/history?resource=dead-1",
    "what happened to a unit": "/jobs/{job}/history?unit={dead}&before=7",
    "what happened to the job": "/jobs/{job}/history",
}
ACTIONS = {
    "retry": "/jobs/{job}/do/retry?state=dead&resource=dead-1",
    "purge": "/jobs/{job}/do/purge?state=held",
    "release": "/jobs/{job}/do/release?state=held",
    "cancel what is held": "/jobs/{job}/do/cancel-held?state=held",
    "cancel": "/jobs/{job}/do/cancel?resource=busy",
    "cancel of a unit": "/jobs/{job}/do/cancel?unit={dead}",
    "cancel of a job": "/jobs/{job}/do/cancel",
    "hurry": "/jobs/{job}/do/hurry?resource=late",
    "pause": "/jobs/{job}/do/pause?resource=busy",
    "pause of a job": "/jobs/{job}/do/pause",
    "resume": "/jobs/{job}/do/resume?resource=busy",
    "resume of a job": "/jobs/{job}/do/resume",
}
NOT_THERE = {
    "/nothing": 404,
    "/jobs/999": 404,
    "/jobs/999/dead": 404,
    "/jobs/999/resource?name=x": 404,
    "/jobs/99999999999999": 404,
    "/jobs/{job}/workers/77": 404,
    "/jobs/{job}/units/999999999999999999": 404,
    "/jobs/{job}/done/never": 404,
    "/jobs/{job}/dead?reason=x": 400,
    "/jobs/{job}/dead?after=x&unit=9999999999999999999999": 400,
    "/jobs/{job}/resource": 400,
    "/jobs/{job}/resource?name=": 400,
    "/jobs/{job}/resource?name=%00": 400,
    "/jobs/{job}/resource?name=" + "x" * 513: 400,
    "/find": 400,
    "/jobs/999/history?resource=x": 404,
    "/jobs/{job}/history?resource=": 400,
    "/jobs/{job}/history?unit=x": 400,
    "/jobs/{job}/history?unit=9999999999999999999999": 400,
    "/jobs/{job}/history?unit=1&before=-1": 400,
    "/jobs/{job}/history?resource=a&before=²": 400,
    "/find?q=x&job=²": 400,
    "/static/../app.py": 404,
    "/static/..%2Fapp.py": 404,
}


KNOWN_TAGS = """html head meta title link script body a header nav form label input button p main footer h1 h2 h3 div
    table thead tbody tr th td span dl dt dd ul li bdi time code pre br"""
SCRIPT = f"/static/page.js?{static('page.js')[1]}"
RESOURCES = {"resource", "resource that is busy", "resource that waits", "resource that nobody knows"}
WITH_ACTIONS = RESOURCES | {"job", "unit", "dead", "dead further on", "held"}
WITH_PAYLOADS = {"resource", "resource that is busy", "resource that waits", "unit"}


class Tags(HTMLParser):
    """The tags of a page, as a browser would find them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, list[tuple[str, str | None]]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, attrs))


@pytest.fixture(scope="module")
def pool(queue_database: str) -> Iterator[Queue]:
    with filled(queue_database) as made:
        yield made


@pytest.fixture(scope="module")
def pages(pool: Queue) -> Iterator[dict[str, Page]]:
    with ExitStack() as stack:
        yield {
            name: Page(stack.enter_context(page_of(Served(pool.url, rights=rights)))) for name, rights in RIGHTS.items()
        }


@pytest.fixture(scope="module")
def names(pool: Queue) -> dict[str, str]:
    return {
        "job": str(pool.job_id),
        "worker": str(pool.one("select id from striped.worker")),
        "dead": str(pool.one("select id from striped.unit where resource = 'dead-1'")),
    }


def filled_in(path: str, names: dict[str, str]) -> str:
    for name, value in names.items():
        path = path.replace("{" + name + "}", value)
    return path


def check_headers(answer: Answer) -> None:
    policy = answer.headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    tags = Tags()
    tags.feed(answer.text)
    assert not [
        (tag, name, value)
        for tag, attributes in tags.found
        for name, value in attributes
        if name.startswith(("on", "style")) or (value or "").strip().startswith(("javascript:", "data:", "http", "//"))
    ]
    assert {tag for tag, _ in tags.found} <= set(KNOWN_TAGS.split())
    assert [dict(attributes)["src"] for tag, attributes in tags.found if tag == "script"] in ([], [SCRIPT])


@pytest.mark.parametrize("rights", RIGHTS)
@pytest.mark.parametrize("view", VIEWS)
def test_each_view_with_each_right(pages: dict[str, Page], names: dict[str, str], view: str, rights: str) -> None:
    answer = pages[rights].ask(filled_in(VIEWS[view], names))
    assert answer.status == 200
    check_headers(answer)
    assert ("/do/" in answer.text) is (rights == "actions" and view in WITH_ACTIONS)
    assert (IN_PAYLOADS in answer.text) is (rights == "payloads" and view in WITH_PAYLOADS)


def test_a_job_shows_how_long_its_units_took_lately(pages: dict[str, Page], pool: Queue) -> None:
    path = f"/jobs/{pool.job_id}"
    assert "<dt>Ran, last 5 minutes</dt><dd>-</dd>" in pages["nothing"].ask(path).text
    pool.one("select striped.note_times(%s, '{0,0,0,0,60}', 1.2, '{60}', 0.01)", [pool.job_id])
    answer = pages["actions"].ask(path)  # another view than the one that is read already
    for what, times in (("Waited", "p50 18 ms, p95 24 ms, p99 25 ms"), ("Ran", "p50 under 1 ms")):
        assert re.search(rf"<dt>{what}, last 5 minutes</dt><dd>{times}", answer.text)
    check_headers(answer)


@pytest.mark.parametrize("rights", RIGHTS)
@pytest.mark.parametrize("action", ACTIONS)
def test_each_action_with_each_right(pages: dict[str, Page], names: dict[str, str], action: str, rights: str) -> None:
    path = filled_in(ACTIONS[action], names)
    asked = pages[rights].ask(path)
    done = pages[rights].ask(path, form={"token": "0" * 64})
    for answer in (asked, done):
        check_headers(answer)
    assert (asked.status, done.status) == ((200, 403) if rights == "actions" else (403, 403))
    assert ('method="post"' in asked.text) is (rights == "actions")


@pytest.mark.parametrize("path", NOT_THERE)
def test_what_is_not_there_is_a_page_with_words(pages: dict[str, Page], names: dict[str, str], path: str) -> None:
    answer = pages["nothing"].ask(filled_in(path, names).replace("²", "%C2%B2"))
    assert answer.status == NOT_THERE[path]
    assert "<h1>" in answer.text
    check_headers(answer)


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_name_is_shown_linked_and_found(pages: dict[str, Page], names: dict[str, str], name: str) -> None:
    shown = printable(named(name))
    dead = pages["actions"].ask(f"/jobs/{names['job']}/dead")
    links = re.findall(r'<a class="name" href="([^"]*/resource\?[^"]*)"><bdi>(.*?)</bdi>', dead.text)
    (link,) = [unescape(href) for href, text in links if unescape(text) == shown]
    answer = pages["payloads"].ask(link)
    assert answer.status == 200
    assert f"<bdi>{shown}</bdi>" in unescape(answer.text)
    assert IN_PAYLOADS in answer.text  # it is the unit's own page, not that of another name
    check_headers(answer)
    assert all(sign.isprintable() or sign == "\n" for sign in answer.text)
    asked = pages["actions"].ask(f"/jobs/{names['job']}/do/purge?{urlencode({'state': 'dead', 'resource': name})}")
    assert f"Purge 1 dead unit of job default/sync, of the resource {printable(name)}." in unescape(asked.text)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost@evil.example:80", "", "["])
def test_another_host_is_refused(pages: dict[str, Page], host: str) -> None:
    for path in ("/", "/static/page.js", "/jobs/1/do/purge?state=dead"):
        answer = pages["actions"].ask(path, {"Host": host})
        assert answer.status in {400, 421}
        assert "default/sync" not in answer.text


def test_another_host_is_served_where_it_was_told(pool: Queue) -> None:
    with page_of(Served(pool.url, hosts=frozenset({"jobs.example"}))) as base:
        assert Page(base).ask("/", {"Host": "jobs.example:8095"}).status == 200
        assert Page(base).ask("/").status == 421


def test_what_a_forged_request_asks_for_is_not_done(pages: dict[str, Page], pool: Queue, names: dict[str, str]) -> None:
    path = filled_in("/jobs/{job}/do/purge?state=held", names)
    good = token_of(pages["actions"].ask(path))
    other = token_of(pages["actions"].ask(path.replace("held", "dead")))
    for token, headers in (
        ("", {}),
        (other, {}),
        (good, {"Origin": "http://evil.example"}),
        (good, {"Sec-Fetch-Site": "cross-site"}),
        (good, {"Origin": "null"}),
    ):
        answer = pages["actions"].ask(path, headers, {"token": token})
        assert answer.status == 403
        assert "Nothing was done" in answer.text
    assert pages["payloads"].ask(path, form={"token": good}).status == 403
    assert pool.one("select count(*) from striped.unit where state = 'held'") == 1


def test_a_body_without_end_is_refused(pages: dict[str, Page], names: dict[str, str]) -> None:
    path = filled_in("/jobs/{job}/do/purge?state=held", names)
    assert pages["actions"].ask(path, form={"token": "x" * 100_000}).status == 413


def test_an_open_breaker_is_said_on_the_page_of_its_job(
    pool: Queue, pages: dict[str, Page], names: dict[str, str]
) -> None:
    pool.db.execute(
        "update striped.job set alike = 20, alike_kind = %s, openings = 1, opened_at = now(),"
        " open_until = now() + interval '1 h' where id = %s",
        ["<b>no</b>\x1b[31m", pool.job_id],
    )
    try:
        answer = pages["nothing"].ask(filled_in("/jobs/{job}", names))
    finally:
        pool.db.execute("select striped.close_breaker(%s)", [pool.job_id])
    check_headers(answer)
    said = " UTC after 20 failures alike: &lt;b&gt;no&lt;/b&gt;\\x1b[31m; then one unit is tried."
    assert answer.text.count(said) == 2, "above, and where resources wait for a worker"
