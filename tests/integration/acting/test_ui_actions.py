"""What the page does to units: after it was asked for, exactly, and told exactly, also where it ends half way."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.pages import HOSTILE, Page, token_of
from tests.support.runs import await_

from stripedjob.pool.client import page as reads
from stripedjob.pool.types import Failure, Fate, Then
from stripedjob.ui import acting, actions

if TYPE_CHECKING:
    from tests.support.queues import Queue

COUNTS = "select state::text, count(*) from striped.unit group by 1"
DEAD = 2 + len(HOSTILE)


def counts(pool: Queue) -> dict[str, int]:
    return dict(pool.db.execute(COUNTS).fetchall())


ASKED = [
    ("retry?state=dead", f"Retry {DEAD} dead", f"{DEAD} units are ready again.", {"dead": 0, "ready": DEAD + 3}),
    ("retry?state=dead&resource=dead-2", "Retry 1 dead", "1 unit is ready again.", {"dead": DEAD - 1, "ready": 4}),
    ("release?state=held", "Release 1 held unit", "1 unit is ready again.", {"held": 0, "ready": 4}),
    ("purge?state=held", "Purge 1 held unit", "1 unit is removed.", {"held": 0}),
    ("cancel-held?state=held", "Cancel 1 held unit", "1 unit is cancelled.", {"held": 0, "dead": DEAD + 1}),
    ("purge?state=dead", f"Purge {DEAD} dead units", f"{DEAD} units are removed.", {"dead": 0}),
    ("purge?state=dead&unit={dead}", "Purge 1 dead unit", "1 unit is removed.", {"dead": DEAD - 1}),
    ("purge?state=dead&reason={reason}", "Purge 2 dead units", "2 units are removed.", {"dead": DEAD - 2}),
]
OTHERS = (
    "retry?state=held",
    "cancel-held?state=dead",
    "cancel-held",
    "cancel?state=held",
    "release?state=dead",
    "purge",
    "purge?state=ready",
    "drop?state=dead",
    "purge?unit=x",
)


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
    assert said in page.do(path)
    assert counts(pool) == {state: n for state, n in (before | changes).items() if n}


def test_held_units_of_one_reason_are_cancelled_with_who_and_why(
    pool: Queue, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reads, "CHOSEN_MAX", 3)
    worker, reasons = pool.worker("x"), {f"held-{n}": ("<b>ask</b> ann" if n < 5 else "ask bob") for n in range(7)}
    for name in reasons:
        pool.put(name)
    for name, lease in pool.take_all(worker, units=1).items():
        faults = (Failure(lease.ids[0], Fate.HELD, 0, 0, reasons[name]),) if name in reasons else ()
        pool.end(worker, lease, then=Then.IDLE, done=(), failed=faults)
    shown = page.ask(f"/jobs/{pool.job_id}/held").text
    digest = pool.one("select md5('<b>ask</b> ann')")
    path = f"/jobs/{pool.job_id}/do/cancel-held?state=held&reason={digest}"
    assert path.replace("&", "&amp;") in shown
    asked = page.ask(path).text
    assert "Cancel 5 held units of job default/sync, for this reason: &lt;b&gt;ask&lt;/b&gt; ann" in asked
    assert 'name="why"' in asked
    assert 'name="why"' not in page.ask(path.replace("cancel-held", "purge")).text
    assert counts(pool)["held"] == 8
    assert "5 units are cancelled." in page.do(path, why=" wrong <price>\n")
    assert counts(pool)["held"] == 3
    found = pool.db.execute("select resource, reason from striped.unit where resource like 'held-%' and state = 'dead'")
    assert dict(found.fetchall()) == dict.fromkeys(list(reasons)[:5], "cancelled by ann: wrong <price>")
    assert "There are none" in page.ask(path).text


def test_a_held_unit_that_was_released_before_its_turn_is_not_cancelled(
    pool: Queue, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = reads.choose

    def released_meanwhile(*args: Any) -> Any:
        found = chosen(*args)
        pool.db.execute("select striped.revive(%s, 'held', null, null, 9)", [pool.job_id])
        return found

    path = f"/jobs/{pool.job_id}/do/cancel-held?state=held"
    token = token_of(page.ask(path))
    monkeypatch.setattr(reads, "choose", released_meanwhile)
    answer = page.ask(path, form={"token": token})
    assert "0 units are cancelled." in page.ask(answer.headers["Location"]).text
    assert pool.one("select state::text from striped.unit where resource = 'held/1'") == "ready"


@pytest.mark.parametrize("why", ["x" * 1001, "\0"])
def test_a_why_that_cannot_be_kept_is_refused(pool: Queue, page: Page, why: str) -> None:
    path = f"/jobs/{pool.job_id}/do/cancel-held?state=held"
    assert page.ask(path, form={"token": token_of(page.ask(path)), "why": why}).status == 400
    assert counts(pool)["held"] == 1


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
    assert f"{DEAD} units are removed" in page.do(f"/jobs/{pool.job_id}/do/purge?state=dead")
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
        said = page.do(f"/jobs/{pool.job_id}/do/purge?state=dead")
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
