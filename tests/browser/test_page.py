"""The page as people use it: with eyes, a keyboard, a telephone, no JavaScript, a bad connection."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest
from playwright.sync_api import expect
from tests.browser.conftest import ALL, Tab, violations
from tests.support.pages import HOSTILE, page_of

from stripedjob.ui.app import Served

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from tests.support.engines import RestartablePostgres
    from tests.support.queues import Queue

VIEWS = {
    "jobs": "/",
    "job": "/jobs/{job}",
    "worker": "/jobs/{job}/workers/{worker}",
    "resource": "/jobs/{job}/resource?name=busy",
    "resource with dead units": "/jobs/{job}/resource?name=dead-1",
    "resource that waits": "/jobs/{job}/resource?name=late",
    "unit": "/jobs/{job}/units/{dead}",
    "dead": "/jobs/{job}/dead",
    "held": "/jobs/{job}/held",
    "found": "/find?q=busy",
    "not found": "/find?q=nobody",
    "asked": "/jobs/{job}/do/purge?state=dead",
    "asked why": "/jobs/{job}/do/cancel?resource=busy",
    "what happened": "/jobs/{job}/history?resource=seen",
    "unit that is gone": "/jobs/{job}/units/{gone}",
    "not there": "/jobs/999",
}
NARROW = {"width": 360, "height": 640}
TOO_WIDE = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
PATIENCE_MS = 30_000


def with_history(pool: Queue) -> int:
    """Have the job keep a history, and a unit in it that is gone."""
    pool.db.execute("update striped.job set history_seconds = 3600")
    unit = pool.put("seen")
    pool.db.execute("select striped.cancel(%s, null, null, %s, '', 0, 'ann', 'no', 9)", [pool.job_id, [unit]])
    pool.db.execute("select striped.purge(%s, 'dead', 'seen', null, 9, 'bob')", [pool.job_id])
    return unit


@pytest.fixture
def paths(pool: Queue) -> dict[str, str]:
    known = {
        "job": str(pool.job_id),
        "worker": str(pool.one("select id from striped.worker")),
        "dead": str(pool.one("select id from striped.unit where resource = 'dead-1'")),
        "gone": str(with_history(pool)),
    }
    return {name: path.format(**known) for name, path in VIEWS.items()}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_each_view_can_be_read_by_everybody(browser: Browser, base: str, paths: dict[str, str], scheme: str) -> None:
    with Tab(browser, base, color_scheme=scheme) as tab:
        for name, path in paths.items():
            page = tab.open(path)
            expect(page.locator("h1")).to_be_visible()
            assert violations(page) == [], name
            dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
            assert dark is (scheme == "dark")
        tab.wrong = [words for words in tab.wrong if "404" not in words]  # the last one
        assert tab.wrong == []


def test_each_view_fits_a_telephone(browser: Browser, base: str, paths: dict[str, str]) -> None:
    with Tab(browser, base, viewport=NARROW) as tab:
        for name, path in paths.items():
            page = tab.open(path)
            assert not page.evaluate(TOO_WIDE), name
            assert violations(page) == [], name


def test_hostile_names_are_names(tab: Tab, paths: dict[str, str]) -> None:
    page = tab.open(paths["dead"])
    page.wait_for_timeout(1_500)  # the stream has come, too
    assert page.title() == "Dead units · StripedJob"
    links = page.locator("td a.name")
    assert links.count() == len(HOSTILE) + 2
    for name in HOSTILE:
        page.goto(f"{paths['job']}/resource?{urlencode({'name': name})}")
        assert "taken" not in page.title().partition(" · ")[2]
        expect(page.get_by_role("heading", name="Dead units")).to_be_visible()
    assert tab.wrong == []


@pytest.mark.parametrize(
    ("view", "button", "asked", "told"),
    [
        ("dead", "Retry all dead units", "Retry 11 dead units", "11 units are ready again."),
        ("dead", "Purge all dead units", "Purge 11 dead units", "11 units are removed."),
        ("held", "Release all held units", "Release 1 held unit", "1 unit is ready again."),
        ("held", "Purge all held units", "Purge 1 held unit", "1 unit is removed."),
        ("held", "Cancel these", "Cancel 1 held unit", "1 unit is cancelled."),
        ("unit", "Retry this unit", "Retry 1 dead unit", "1 unit is ready again."),
        ("resource with dead units", "Purge all dead units of this", "Purge 1 dead unit", "1 unit is removed."),
    ],
)
def test_each_action_is_asked_for_and_told(  # noqa: PLR0917
    tab: Tab, paths: dict[str, str], view: str, button: str, asked: str, told: str
) -> None:
    page = tab.open(paths[view])
    page.get_by_role("link", name=button).click()
    assert violations(page) == []
    page.get_by_role("button", name=asked).click()
    expect(page.get_by_text(told)).to_be_visible()
    assert violations(page) == []
    page.get_by_role("link", name="Back").click()
    expect(page.locator("h1")).to_be_visible()
    assert tab.wrong == []


@pytest.mark.parametrize(
    ("view", "button", "told"),
    [
        ("resource", "Pause this resource", "It is paused."),
        ("resource", "Cancel its units", "1 unit of leased resources"),
        ("resource that waits", "Retry now", "1 waiting resource go on now."),
        ("job", "Pause this job", "It is paused."),
        ("job", "Cancel all units", "are cancelled"),
    ],
)
@pytest.mark.parametrize("script", [True, False], ids=["with JavaScript", "without"])
def test_each_act_is_asked_for_and_told(  # noqa: PLR0917
    browser: Browser, base: str, paths: dict[str, str], view: str, button: str, told: str, *, script: bool
) -> None:
    with Tab(browser, base, java_script_enabled=script) as tab:
        page = tab.open(paths[view])
        page.get_by_role("link", name=button).click()
        why = page.get_by_label("Why")
        if why.count():
            why.fill("because")
        page.locator("button.do").click()
        expect(page.get_by_text(told)).to_be_visible()
        page.get_by_role("link", name="Back").click()
        expect(page.locator("h1")).to_be_visible()
        assert tab.wrong == []


def test_units_of_one_reason_are_retried(tab: Tab, paths: dict[str, str]) -> None:
    page = tab.open(paths["dead"])
    page.get_by_role("row", name="no such price").get_by_role("link", name="Retry these").first.click()
    expect(page.get_by_text("for this reason: ValueError: no such price")).to_be_visible()
    page.get_by_role("button", name="Retry 2 dead units").click()
    expect(page.get_by_text("2 units are ready again.")).to_be_visible()


def test_an_action_can_be_left(tab: Tab, paths: dict[str, str], pool: Queue) -> None:
    page = tab.open(paths["asked"])
    page.get_by_role("link", name="Leave them").click()
    expect(page.get_by_role("heading", name="Dead units")).to_be_visible()
    assert pool.one("select count(*) from striped.unit where state = 'dead'") == 11


def test_all_of_it_works_without_javascript(browser: Browser, base: str, paths: dict[str, str]) -> None:
    with Tab(browser, base, java_script_enabled=False) as tab:
        for path in paths.values():
            expect(tab.open(path).locator("h1")).to_be_visible()
        page = tab.open("/")
        expect(page.get_by_text("reload it to see")).to_be_visible()
        page.get_by_role("searchbox").fill("dead-1")
        page.get_by_role("button", name="Find").click()
        page.get_by_role("link", name="dead-1").click()
        page.get_by_role("link", name="Retry all dead units").click()
        page.get_by_role("button", name="Retry 1 dead unit").click()
        expect(page.get_by_text("1 unit is ready again.")).to_be_visible()


def test_all_of_it_works_with_the_keyboard(tab: Tab) -> None:
    page = tab.open("/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_role("region", name="Jobs")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="default/sync")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="default/sync")).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("busy")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Found for busy")).to_be_visible()


def test_what_changes_is_seen_and_the_focus_stays(tab: Tab, paths: dict[str, str], pool: Queue) -> None:
    page = tab.open(paths["job"])
    link = page.get_by_role("link", name="late")
    link.focus()
    page.evaluate("document.querySelector('h1').dataset.mark = 'same'")
    pool.db.execute(
        """insert into striped.stripe (job_id, resource, rank, ready)
        values (%s, 'a new one', '-infinity', 7), (%s, 'another', clock_timestamp(), 8)""",
        [pool.job_id, pool.job_id],
    )
    expect(page.get_by_role("link", name="a new one")).to_be_visible(timeout=PATIENCE_MS)
    expect(page.get_by_role("link", name="another")).to_be_visible()
    pool.db.execute("delete from striped.stripe where resource = 'a new one'")
    expect(page.get_by_role("link", name="a new one")).to_have_count(0, timeout=PATIENCE_MS)
    expect(link).to_be_focused()
    assert page.evaluate("document.querySelector('h1').dataset.mark") is None  # what the server has not said goes
    assert tab.wrong == []


def test_a_lost_connection_is_told_and_comes_back(browser: Browser, pool: Queue) -> None:
    served = Served(pool.url, rights=ALL)
    with page_of(served) as base:
        tab = Tab(browser, base)
        page = tab.open("/")
        page.wait_for_timeout(1_500)
        expect(page.get_by_role("status")).to_be_hidden()
    expect(page.get_by_text("The connection is lost")).to_be_visible(timeout=PATIENCE_MS)
    expect(page.get_by_role("link", name="default/sync")).to_be_visible()
    assert violations(page) == []
    with page_of(served, int(base.rpartition(":")[2])), tab:
        expect(page.get_by_role("status")).to_be_hidden(timeout=PATIENCE_MS)
        pool.put("after it came back", importance=5)
        page.goto(f"/find?{urlencode({'q': 'after it came back'})}")
        expect(page.get_by_role("link", name="after it came back")).to_be_visible()


def test_a_slow_connection_is_enough(browser: Browser, base: str, paths: dict[str, str], pool: Queue) -> None:
    with Tab(browser, base) as tab:
        devtools = tab.page.context.new_cdp_session(tab.page)
        devtools.send(
            "Network.emulateNetworkConditions",
            {"offline": False, "latency": 1_000, "downloadThroughput": 10_000, "uploadThroughput": 10_000},
        )
        page = tab.open(paths["resource"])
        pool.put("busy")
        expect(page.get_by_text("2 ready, 0 delayed")).to_be_visible(timeout=PATIENCE_MS)
        expect(page.get_by_role("status")).to_be_hidden()


def test_a_tab_in_the_background_asks_for_nothing(tab: Tab) -> None:
    page = tab.open("/")
    page.wait_for_timeout(1_000)
    page.evaluate(
        """Object.defineProperty(document, 'hidden', {value: true, configurable: true});
        document.dispatchEvent(new Event('visibilitychange'))"""
    )
    page.wait_for_timeout(1_500)
    before = page.locator("main").inner_html()
    page.wait_for_timeout(2_500)
    assert page.locator("main").inner_html() == before
    page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    page.wait_for_function("before => document.querySelector('main').innerHTML !== before", arg=before)


def test_a_database_that_is_away_is_told_and_comes_back(
    browser: Browser, restartable_postgres: RestartablePostgres
) -> None:
    url = restartable_postgres.url
    with page_of(Served(url, rights=ALL)) as base, Tab(browser, base) as tab:
        page = tab.open("/")
        expect(page.get_by_text("stripedjob migrate")).to_have_count(2)  # in the line above, and in the page
        restartable_postgres.kill()
        expect(page.get_by_role("status")).to_contain_text("cannot be reached", timeout=PATIENCE_MS)
        assert violations(page) == []
        restartable_postgres.start()
        expect(page.get_by_role("status")).to_contain_text("migrate", timeout=PATIENCE_MS)
