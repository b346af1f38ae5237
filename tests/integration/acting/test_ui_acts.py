"""What the page does to work that waits or runs: asked for first, done and told exactly, by whoever did it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import psycopg
import pytest
from tests.support.pages import HOSTILE, JOB, Page, token_of
from tests.support.runs import await_

from stripedjob.pool.client import person
from stripedjob.ui import acting, acts

if TYPE_CHECKING:
    from tests.support.queues import Queue

REASON = "select reason from striped.unit where id = %s"


def path_of(pool: Queue, act: str) -> str:
    return f"/jobs/{pool.job_id}/do/{act}"


def test_what_waits_of_a_resource_is_cancelled_with_who_and_why(pool: Queue, page: Page) -> None:
    unit, other = pool.put("ready-1"), pool.put("ready-2")
    pool.runner.run(pool.pool.upkeep(pool.job_id))
    asked = page.ask(path_of(pool, "cancel?resource=ready-1")).text
    assert "Cancel the resource ready-1 of job default/sync." in asked
    assert "There are now: 2 ready, 0 delayed and 0 held units." in asked
    assert pool.one("select state::text from striped.unit where id = %s", [unit]) == "ready"
    assert "2 units are cancelled." in page.do(path_of(pool, "cancel?resource=ready-1"), why="wrong price")
    assert pool.one(REASON, [unit]) == "cancelled by ann: wrong price"
    assert pool.one("select state::text from striped.unit where id = %s", [other]) == "ready"


def test_what_runs_is_asked_to_end(pool: Queue, page: Page) -> None:
    said = page.do(path_of(pool, "cancel?resource=busy"))
    assert "0 units are cancelled; 1 unit of leased resources: what runs of them is ended by its worker." in said
    assert pool.one("select cancelled from striped.unit where resource = 'busy'") == "cancelled by ann"


def test_one_unit_is_cancelled_and_one_that_is_gone_says_so(pool: Queue, page: Page) -> None:
    unit = pool.one("select id from striped.unit where resource = 'later'")
    assert "It is delayed now." in page.ask(path_of(pool, f"cancel?unit={unit}")).text
    assert "1 unit is cancelled." in page.do(path_of(pool, f"cancel?unit={unit}"))
    pool.db.execute("delete from striped.unit where id = %s", [unit])
    assert "It is not there: done and removed." in page.ask(path_of(pool, f"cancel?unit={unit}")).text
    assert "0 units are cancelled." in page.do(path_of(pool, f"cancel?unit={unit}"))


def test_a_job_of_many_units_is_cancelled_in_steps_that_count(
    pool: Queue, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(person, "CHUNK_UNITS", 3)
    for n in range(10):
        pool.put(f"many-{n}")
    waiting = pool.one("select count(*) from striped.unit where state in ('ready', 'delayed', 'held')")
    said = page.do(path_of(pool, "cancel"))
    assert f"{waiting - 1} units are cancelled; 1 unit of leased resources" in said
    assert pool.one("select count(*) from striped.unit where state in ('ready', 'delayed', 'held')") == 1


def test_what_was_cancelled_before_a_failure_is_told_and_stays(
    pool: Queue, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(person, "CHUNK_UNITS", 1)
    pool.put("ready-2")
    pool.db.execute(
        """create function striped.refuse() returns trigger language plpgsql as
        $$ begin if old.resource = 'ready-2' then raise 'not this one'; end if; return new; end $$;
        create trigger refuse before update on striped.unit for each row execute function striped.refuse()"""
    )
    try:
        said = page.do(path_of(pool, "cancel"))
    finally:
        pool.db.execute("drop trigger refuse on striped.unit; drop function striped.refuse()")
    gone = pool.one("select count(*) from striped.unit where reason like 'cancelled by ann%%'")
    assert gone
    assert f"It ended early: {gone} units are cancelled; 1 unit of leased" in said
    assert "which stays so. not this one" in said


@pytest.mark.parametrize("act", ["hurry", "hurry?resource=late"])
def test_what_waits_for_another_try_goes_on_now(pool: Queue, page: Page, act: str) -> None:
    assert "0 delayed units and 1 waiting resource go on now." in page.do(path_of(pool, act))
    assert pool.one("select state::text from striped.stripe where resource = 'late'") == "ready"


def test_a_unit_that_is_delayed_goes_on_now(pool: Queue, page: Page) -> None:
    unit = pool.one("select id from striped.unit where resource = 'later'")
    assert "1 delayed unit and 0 waiting resources go on now." in page.do(path_of(pool, f"hurry?unit={unit}"))


@pytest.mark.parametrize("of", ["", "?resource=ready-1", "?resource=never+seen", "?resource=%F0%9F%98%80"])
def test_a_pause_is_made_told_seen_and_ended(pool: Queue, page: Page, of: str) -> None:
    where = f"/jobs/{pool.job_id}{of.replace('?resource', '/resource?name')}"
    assert "It is paused." in page.do(path_of(pool, f"pause{of}"), why="the shop\nis <closed>")
    assert "It was paused already, and stays so as it was." in page.do(path_of(pool, f"pause{of}"), why="other")
    seen = page.ask(where).text
    assert r"aused by ann" in seen
    assert r"the shop\nis &lt;closed&gt;" in seen
    assert f"/do/resume{of}" in seen
    assert "It goes on." in page.do(path_of(pool, f"resume{of}"))
    assert "It was not paused." in page.do(path_of(pool, f"resume{of}"))
    await_("another look", lambda: f"/do/pause{of}" in page.ask(where).text)


def test_a_pause_that_cannot_be_had_is_not_told_as_one(
    pool: Queue, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acting, "WAIT_SECONDS", 0.1)
    monkeypatch.setattr(acts, "CALL_SECONDS_MAX", 0.5)
    with psycopg.connect(pool.url) as other:
        other.execute("select from striped.stripe where resource = 'busy' for update")
        path = path_of(pool, "pause?resource=busy")
        answer = page.ask(path, form={"token": token_of(page.ask(path))})
        where = answer.headers["Location"]
        assert "Under way." in page.ask(where).text
        await_("the end", lambda: "It was not done." in page.ask(where).text)
    assert not pool.one("select bool_or(paused) from striped.stripe")


@pytest.mark.parametrize(
    "act",
    [
        "cancel?state=dead",
        "pause?unit=1",
        "resume?unit=1",
        "cancel?unit=x",
        "cancel?resource=a&unit=1",
        "hurry?x=1",
        "pause?resource=",
        "pause?resource=%00",
        "cancel?resource=" + "x" * 513,
        "cancel?unit=" + "9" * 19,
    ],
)
def test_no_other_act_can_be_asked_for(pool: Queue, page: Page, act: str) -> None:
    assert page.ask(path_of(pool, act)).status == 400


@pytest.mark.parametrize("why", ["x" * 1001, "\0"])
def test_a_why_that_cannot_be_kept_is_refused(pool: Queue, page: Page, why: str) -> None:
    path = path_of(pool, "pause")
    assert page.ask(path, form={"token": token_of(page.ask(path)), "why": why}).status == 400
    assert pool.one("select paused_at is null from striped.job")


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_acted_on(pool: Queue, page: Page, name: str) -> None:
    of = "?" + urlencode({"resource": name})
    assert "It is paused." in page.do(path_of(pool, "pause" + of), why=name)
    assert pool.one("select why from striped.pause where resource = %s", [name]) == name.strip()


def test_what_happened_is_shown_and_says_who(pool: Queue, page: Page) -> None:
    pool.apply(replace(JOB, history_seconds=3600))
    units = [pool.put("seen") for _ in range(30)]
    worker = pool.worker("w<2>")
    pool.runner.run(pool.pool.upkeep(pool.job_id))
    leases = pool.take_all(worker, units=1)
    pool.end(worker, leases["seen"])
    page.do(path_of(pool, "pause?resource=seen"), why="closed")
    gone = page.ask(f"/jobs/{pool.job_id}/units/{units[0]}")
    assert gone.status == 200
    assert "It is gone" in gone.text
    assert "done by w&lt;2&gt; under fence" in gone.text
    assert f'Unit <a href="/jobs/{pool.job_id}/units/{units[0]}"' in page.ask(f"/find?q={units[0]}").text
    first = page.ask(f"/jobs/{pool.job_id}/resource?name=seen").text
    assert "paused by ann: closed" in first
    assert "Earlier" in first
    there = page.ask(f"/jobs/{pool.job_id}/units/{units[1]}").text
    assert "put in" in there
    assert "paused by ann: closed" in there
    whole = page.ask(f"/jobs/{pool.job_id}/history?resource=seen").text
    assert whole.count('<td class="words">put in</td>') == 30
    assert page.ask(f"/jobs/{pool.job_id}/history?unit={units[1]}&before=1").status == 200
    assert "Nothing is known" in page.ask(f"/jobs/{pool.job_id}/history?resource=nobody").text


def is_told(page: Page, path: str) -> bool:
    return "the job was resumed by ann" in page.ask(path).text


def test_a_pause_of_the_job_is_told_with_it_its_resources_and_its_units(pool: Queue, page: Page) -> None:
    pool.apply(replace(JOB, history_seconds=3600))
    units = [pool.put("seen") for _ in range(2)]
    worker = pool.worker("w")
    pool.runner.run(pool.pool.upkeep(pool.job_id))
    pool.end(worker, pool.take_all(worker, units=1)["seen"])
    page.do(path_of(pool, "pause"), why="the <whole> shop")
    page.do(path_of(pool, "resume"))
    for of in ("", "/resource?name=seen", f"/units/{units[1]}", "/history", "/history?resource=seen"):
        path = f"/jobs/{pool.job_id}{of}"
        await_("another look", partial(is_told, page, path))
        assert "the job was paused by ann: the &lt;whole&gt; shop" in page.ask(path).text
    assert "the job was" not in page.ask(f"/jobs/{pool.job_id}/units/{units[0]}").text


def test_names_that_begin_so_are_found(pool: Queue, page: Page) -> None:
    for n in range(60):
        pool.put(f"shop-{n:02}/%_")
    pool.put("shoq")
    found = page.ask(f"/find?q=shop-&job={pool.job_id}").text
    assert found.count("/resource?name=shop-") == 50
    assert "shoq" not in found
    assert page.ask("/find?q=shop-").text.count("/resource?name=shop-") == 5
    assert page.ask("/find?q=dead-").text.count("/resource?name=dead-") == 2
    assert "/resource?name=late" in page.ask("/find?q=lat").text
    assert "No resource whose name" in page.ask("/find?q=%25").text
