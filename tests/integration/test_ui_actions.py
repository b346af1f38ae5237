"""What the page does to units: after it was asked for, exactly, and told exactly, also where it ends half way."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from tests.support.pages import HOSTILE, Page, filled, page_of, token_of
from tests.support.runs import await_

from stripedjob.pool.client import page as reads
from stripedjob.ui import acting, actions
from stripedjob.ui.app import Served
from stripedjob.ui.security import Rights

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.queues import Queue

COUNTS = "select state::text, count(*) from striped.unit group by 1"
DEAD = 2 + len(HOSTILE)


@pytest.fixture
def pool(queue_database: str) -> Iterator[Queue]:
    with filled(queue_database) as made:
        yield made


@pytest.fixture
def page(pool: Queue) -> Iterator[Page]:
    with page_of(Served(pool.url, rights=Rights(actions=True))) as base:
        yield Page(base)


def counts(pool: Queue) -> dict[str, int]:
    return dict(pool.db.execute(COUNTS).fetchall())


def do(page: Page, path: str) -> str:
    """Go through the page that asks; gives what is said afterwards."""
    answer = page.ask(path, form={"token": token_of(page.ask(path))})
    assert answer.status == 303
    return page.ask(answer.headers["Location"]).text


ASKED = [
    ("retry?state=dead", f"Retry {DEAD} dead", f"{DEAD} units are ready again.", {"dead": 0, "ready": DEAD + 3}),
    ("retry?state=dead&resource=dead-2", "Retry 1 dead", "1 unit is ready again.", {"dead": DEAD - 1, "ready": 4}),
    ("release?state=held", "Release 1 held unit", "1 unit is ready again.", {"held": 0, "ready": 4}),
    ("purge?state=held", "Purge 1 held unit", "1 unit is removed.", {"held": 0}),
    ("purge?state=dead", f"Purge {DEAD} dead units", f"{DEAD} units are removed.", {"dead": 0}),
    ("purge?state=dead&unit={dead}", "Purge 1 dead unit", "1 unit is removed.", {"dead": DEAD - 1}),
    ("purge?state=dead&reason={reason}", "Purge 2 dead units", "2 units are removed.", {"dead": DEAD - 2}),
]
OTHERS = ("retry?state=held", "release?state=dead", "purge", "purge?state=ready", "drop?state=dead", "purge?unit=x")


@pytest.mark.parametrize(("action", "asked", "said", "changes"), ASKED, ids=[one[0] for one in ASKED])
def test_an_action_does_what_it_says(  # noqa: PLR0917
    pool: Queue, page: Page, action: str, asked: str, said: str, changes: dict[str, int]
) -> None:
    dead = pool.one("select id from striped.unit where resource = 'dead-1'")
    reason = pool.one("select md5(reason) from striped.unit where resource = 'dead-1'")
    before = counts(pool)
    path = f"/jobs/{pool.job_id}/do/" + action.replace("{dead}", str(dead)).replace("{reason}", reason)
    assert asked in page.ask(path).text
    assert counts(pool) == before
    assert said in do(page, path)
    assert counts(pool) == {state: n for state, n in (before | changes).items() if n}


def test_where_there_are_none_nothing_is_asked(pool: Queue, page: Page) -> None:
    asked = page.ask(f"/jobs/{pool.job_id}/do/retry?state=dead&resource=nobody")
    assert "There are none" in asked.text
    assert 'method="post"' not in asked.text


@pytest.mark.parametrize("action", OTHERS)
def test_no_other_action_can_be_asked_for(pool: Queue, page: Page, action: str) -> None:
    assert page.ask(f"/jobs/{pool.job_id}/do/{action}").status == 400


def test_an_action_on_more_than_one_call_takes_is_exact(
    pool: Queue, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reads, "CHOSEN_MAX", 3)
    assert f"{DEAD} units are removed" in do(page, f"/jobs/{pool.job_id}/do/purge?state=dead")
    assert "dead" not in counts(pool)


def test_a_count_that_takes_too_long_says_more_than(pool: Queue, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reads, "CHOSEN_MAX", 2)
    monkeypatch.setattr(actions, "COUNT_MAX", 4)
    assert "Purge more than 4 dead units" in page.ask(f"/jobs/{pool.job_id}/do/purge?state=dead").text


def test_what_was_done_before_a_failure_is_told_and_stays(
    pool: Queue, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reads, "CHOSEN_MAX", 3)
    pool.db.execute(
        """create function striped.refuse() returns trigger language plpgsql as
        $$ begin if old.resource = 'dead-2' then raise 'not this one'; end if; return old; end $$;
        create trigger refuse before delete on striped.unit for each row execute function striped.refuse()"""
    )
    try:
        said = do(page, f"/jobs/{pool.job_id}/do/purge?state=dead")
    finally:
        pool.db.execute("drop trigger refuse on striped.unit; drop function striped.refuse()")
    gone = DEAD - counts(pool)["dead"]
    assert re.search(rf"It ended early: {gone} units? (is|are) removed, which stays so. not this one", said)


def test_an_action_that_takes_long_shows_how_far_it_is(
    pool: Queue, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acting, "WAIT_SECONDS", 0.1)
    pool.db.execute("begin; select from striped.unit where state = 'dead' for update")
    path = f"/jobs/{pool.job_id}/do/purge?state=dead"
    answer = page.ask(path, form={"token": token_of(page.ask(path))})
    where = answer.headers["Location"]
    assert "Under way: 0 units are removed so far." in page.ask(where).text
    pool.db.execute("rollback")
    await_("the end", lambda: f"{DEAD} units are removed." in page.ask(where).text)


def test_an_action_on_a_job_that_is_gone_says_so(page: Page) -> None:
    answer = page.ask("/jobs/999/do/purge?state=dead")
    assert answer.status == 503
    assert "there is no such job" in answer.text
