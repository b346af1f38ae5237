"""What `stripedjob explain` says: whatever the facts are, one safe line for each, and no traceback."""

from __future__ import annotations

from typing import Any

import pytest

from stripedjob.explaining import breaker_words, may_be_locked, sentences
from stripedjob.text import printable

FACTS: dict[str, Any] = {
    "resource": "r",
    "limit": 1,
    "now": "2026-03-01T12:00:00.5+00:00",
    "workers": 1,
    "working": 0,
    "state": None,
    "woken": False,
    "crashes": 0,
    "fence": 7,
    "assigned_at": None,
    "leased_at": None,
    "worker": "w",
    "worker_id": 1,
    "lease_ends_at": None,
    "delegated": False,
    "delegator": None,
    "area": None,
    "outstanding_max": None,
    "outstanding": None,
    "token_at": None,
    "next_at": None,
    "waits_for_person": None,
    "paused": None,
    "job_paused": None,
    "breaker": None,
    "ahead": 0,
    "arriving": 0,
    "ready": 0,
    "delayed": 0,
    "next_due_at": None,
    "held": 0,
    "dead": 0,
    "head": None,
    "barrier": None,
    "set_aside": None,
}
TIMES = {
    "2026-03-01T13:00:00+00:00": "2026-03-01 13:00:00 UTC (in 3600 s)",
    "2026-03-01T13:00:00.123456+02:00": "2026-03-01 11:00:00 UTC (3600 s ago)",
    "infinity": "never",
    "10000-01-01T07:59:00+00:00": "10000-01-01T07:59:00+00:00",
    "9999-12-31T23:59:00-12:00": "9999-12-31T23:59:00-12:00",
    "294276-12-31T23:59:59+00:00": "294276-12-31T23:59:59+00:00",
    "0001-01-01T00:00:00+14:00": "0001-01-01T00:00:00+14:00",
    "4713-01-01T00:00:00+00:00 BC": "4713-01-01T00:00:00+00:00 BC",
    "-infinity": "-infinity",
}


def said(**facts: Any) -> list[str]:
    lines = sentences(FACTS | facts, suspended=False)
    assert all(line.isprintable() for line in lines), lines
    return lines


@pytest.mark.parametrize("time", TIMES)
def test_any_time_of_the_database_is_said(time: str) -> None:
    shown = TIMES[time]
    assert f"the next delayed one is due {shown}." in said(delayed=1, next_due_at=time)[1]
    waits = "has waited" if shown.endswith(" ago)") else "waits"
    assert said(state="waiting", next_at=time)[0].startswith(f"r {waits} until {shown}: its lock was refused")
    leased = said(state="leased", leased_at=time, lease_ends_at=time)[0]
    assert f"since {shown}, under fence 7; the lease ends {shown} unless" in leased
    assert f"since {shown}, which leases it next" in said(state="assigned", assigned_at=time)[0]
    barrier = {"id": 3, "due_at": time}
    assert "unit 3 is due then" in said(state="waiting", next_at=time, barrier=barrier, ready=2)[0]


@pytest.mark.parametrize("state", ["leased", "assigned"])
def test_a_resource_whose_worker_is_gone_is_explained(state: str) -> None:
    line = said(state=state, worker=None, worker_id=None, leased_at=FACTS["now"], assigned_at=FACTS["now"])[0]
    assert line == f"r is {state} to a worker that is gone; another worker takes it back within seconds."


def test_a_wait_without_end_is_told_from_a_wait_for_a_person() -> None:
    barrier = {"id": 3, "due_at": "infinity"}
    assert said(state="waiting", waits_for_person=True, barrier=barrier, delayed=1, next_due_at="infinity") == [
        "r waits for unit 3, which is due never.",
        "Its units: 1 delayed; the next delayed one is due never.",
    ]
    assert "until a person releases" in said(state="waiting", waits_for_person=True, held=1)[0]


EVIL = "a\nr is ready\x1b]0;x\x07\x9b31m\u202e\ud800\0"


def test_no_value_forges_a_line_or_reaches_the_terminal() -> None:
    aside = [{"id": 1, "state": "dead", "reason": EVIL, "trace": f'File "x", line 1\n  {EVIL}'}]
    head = {"id": 1, "attempts": 1, "crashes": 0, "reason": EVIL}
    for facts in (
        {"state": "leased", "worker": EVIL, "leased_at": FACTS["now"], "lease_ends_at": FACTS["now"]},
        {"state": "waiting", "next_at": FACTS["now"], "head": head},
        {"state": "ready", "area": EVIL, "outstanding": 1, "outstanding_max": 1},
        {},
    ):
        first, *rest = said(**facts | {"resource": EVIL, "set_aside": aside, "dead": 1})
        assert printable(EVIL) in first
        assert len(rest) == 5
        assert rest[2] == '    File "x", line 1'


def test_text_that_can_be_printed_is_left_as_it_is() -> None:
    assert printable("Zürich/日本 'a' \\n 😀") == "Zürich/日本 'a' \\n 😀"


PAUSED = {"who": EVIL, "why": EVIL, "at": FACTS["now"]}


def test_a_pause_says_who_and_why() -> None:
    by = f"paused by {printable(EVIL)} since {FACTS['now']} ({printable(EVIL)})"
    assert said(state="waiting", waits_for_person=True, paused=PAUSED) == [
        f"r is {by}; `stripedjob resume --resource` lets it go on."
    ]
    assert said(state="ready", job_paused=PAUSED) == [
        f"r is ready; the job is {by}; `stripedjob resume` lets it go on."
    ]
    leased = said(state="leased", leased_at=FACTS["now"], lease_ends_at=FACTS["now"], paused=PAUSED)[0]
    assert leased.endswith(f"unless it is renewed. It is {by}: it is not leased again.")


def test_a_breaker_says_until_when_and_after_what() -> None:
    found = {"until": "2026-03-01T12:00:10.5+00:00", "failures": 20, "kind": EVIL, "probe": None}
    after = f"after 20 failures alike: {printable(EVIL)}"
    is_open = f"circuit breaker open until 12:00:10 UTC {after}; then one unit is tried"
    assert said(state="ready", breaker=found) == [f"r is ready; the job has its {is_open}."]
    over = found | {"until": FACTS["now"]}
    half_open = f"circuit breaker half open {after};"
    assert said(state="ready", breaker=over) == [f"r is ready; the job has its {half_open} one unit is tried next."]
    probed = said(state="ready", breaker=over | {"probe": EVIL})
    assert probed == [f"r is ready; the job has its {half_open} a unit of {printable(EVIL)} is tried now."]


@pytest.mark.parametrize(
    ("seconds", "until", "words"),
    [
        (10, "2026-03-01T13:00:10+01:00", "open until 12:00:10 UTC after 1 failure: HTTP 503"),
        (99_999, "2026-03-02T13:00:10+00:00", "open until 2026-03-02 13:00:10 UTC after 1 failure: HTTP 503"),
        (99_999, "294276-12-31T23:59:59+00:00", "open until 294276-12-31T23:59:59+00:00 after 1 failure: HTTP 503"),
    ],
)
def test_a_breaker_names_the_day_where_that_is_not_soon(seconds: float, until: str, words: str) -> None:
    assert breaker_words(1, "HTTP 503", until, seconds) == f"circuit breaker {words}; then one unit is tried"


@pytest.mark.parametrize(
    ("lock", "words"),
    [
        (None, "the key is in the lock backend"),
        ({"token": None, "seconds_left": None, "error": EVIL}, f"cannot say who has it: {printable(EVIL)}"),
        ({"token": None, "seconds_left": None, "error": ""}, "nobody has the lock any more"),
        (
            {"token": "app 7", "seconds_left": 12.4, "error": ""},
            "is held by 'app 7', somebody outside of this pool, for 12 s",
        ),
        ({"token": "app 7", "seconds_left": None, "error": ""}, "for ever: it has no expiry"),
    ],
)
def test_a_refused_lock_says_who_has_it_and_for_how_long(lock: dict[str, Any] | None, words: str) -> None:
    facts = FACTS | {"state": "waiting", "next_at": FACTS["now"]}
    assert may_be_locked(facts)
    assert words in said(**facts | {"lock": lock})[0]


def test_what_waits_for_something_else_does_not_ask_for_its_lock() -> None:
    head = {"id": 1, "attempts": 1, "crashes": 0, "reason": "no"}
    assert not may_be_locked(FACTS | {"state": "waiting", "next_at": FACTS["now"], "head": head})
    assert not may_be_locked(FACTS | {"state": "waiting", "waits_for_person": True})
    assert not may_be_locked(FACTS | {"state": "leased"})
