"""The page without a pool: rates, times, names, tokens."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from stripedjob.ui.rates import STALE_SECONDS, Rates
from stripedjob.ui.render import Renderer, away, bounded, named, phase, span, url
from stripedjob.ui.security import Tokens, host_of, is_of_this_page

NOW = "2026-03-01T12:00:00+00:00"
HOSTILE = "<script>x</script>\n\u202e\x1b[31m\"'"


def test_a_rate_is_of_the_last_seconds() -> None:
    rates = Rates()
    assert rates.per_second(1, 100, 0.0) is None
    assert rates.per_second(1, 150, 5.0) == 10
    assert rates.per_second(1, 150, 10.0) == 5
    assert rates.per_second(1, 150, 16.0) == 0
    assert rates.per_second(2, 7, 16.0) is None


def test_what_was_seen_long_ago_or_in_another_pool_is_no_rate() -> None:
    rates = Rates()
    rates.per_second(1, 100, 0.0)
    assert rates.per_second(1, 200, STALE_SECONDS + 1) is None
    assert rates.per_second(1, 10, STALE_SECONDS + 2) is None
    assert rates.per_second(1, 12, STALE_SECONDS + 3) == 2


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (-87, "87 s"), (600, "10 min"), (7_300, "2 h"), (900_000, "10 d")]
)
def test_a_span_has_one_unit(seconds: float, words: str) -> None:
    assert span(seconds) == words


def test_any_time_of_the_database_is_shown() -> None:
    assert "in 60 min" in away("2026-03-01T13:00:00+00:00", NOW)
    assert "30 s ago" in away("2026-03-01T11:59:30+00:00", NOW)
    assert away("infinity", NOW) == "never"
    assert away(None, NOW) == "-"
    assert away("294276-12-31T23:59:59+00:00", NOW) == "294276-12-31T23:59:59+00:00"


def test_what_is_counted_as_far_as_a_bound_says_so() -> None:
    assert bounded(9_999) == "9,999"
    assert bounded(10_000) == "10,000 or more"


def test_a_name_of_spaces_can_be_seen() -> None:
    assert (named("a b"), named(" "), named("a ")) == ("a b", '" "', '"a "')


def test_urls_carry_any_name() -> None:
    assert url("/x", name="a/../%2F?&#\n😀", none=None) == "/x?name=a%2F..%2F%252F%3F%26%23%0A%F0%9F%98%80"


@pytest.mark.parametrize(
    ("numbers", "word"),
    [
        ({"paused_by": "ann", "schedule_limit": 0, "leased_resources": 1}, "Paused"),
        ({"schedule_limit": 0, "leased_resources": 1}, "Stopped"),
        ({"leased_resources": 1}, "Working"),
        ({"pending": 1}, "Stalled"),
        ({"pending": 1, "workers": 1}, "Waiting"),
        ({"delayed": 1}, "Waiting"),
        ({}, "Idle"),
    ],
)
def test_a_job_has_a_phase(numbers: dict[str, Any], word: str) -> None:
    counts = dict.fromkeys(("leased_resources", "pending", "workers", "delayed"), 0)
    assert phase({"paused_by": None, "schedule_limit": 4} | counts | numbers) == word


def test_whatever_words_a_page_has_are_escaped_and_printable() -> None:
    text = Renderer().words(HOSTILE, HOSTILE)
    assert "<script>x" not in text
    assert "\\n\\u202e\\x1b[31m&#34;&#39;" in text
    assert not {"\u202e", "\x1b"} & set(text)


def test_a_token_is_good_for_one_action_of_one_process() -> None:
    ours, theirs = Tokens(), Tokens()
    token = ours.make("/jobs/1/do/purge?state=dead")
    assert ours.is_good("/jobs/1/do/purge?state=dead", token)
    assert not ours.is_good("/jobs/1/do/purge?state=held", token)
    assert not theirs.is_good("/jobs/1/do/purge?state=dead", token)
    assert not ours.is_good("/jobs/1/do/purge?state=dead", "é")


def request(**headers: str) -> Any:
    return SimpleNamespace(headers={name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize(
    ("given", "host"),
    [
        ("localhost:8095", "localhost"),
        ("LOCALHOST", "localhost"),
        ("127.0.0.1", "127.0.0.1"),
        ("[::1]:80", "::1"),
        ("localhost.", "localhost"),
        ("localhost@evil.example", "evil.example"),
        ("localhost.evil.example", "localhost.evil.example"),
        ("[", ""),
        ("", ""),
    ],
)
def test_the_host_is_read_without_its_port(given: str, host: str) -> None:
    assert host_of(request(Host=given)) == host


def test_what_another_page_sends_is_told_apart() -> None:
    assert is_of_this_page(request(Host="localhost:1"))
    assert is_of_this_page(request(Host="localhost:1", Origin="http://localhost:1", Sec_Fetch_Site="same-origin"))
    assert not is_of_this_page(request(Host="localhost:1", Origin="http://localhost:2"))
    assert not is_of_this_page(request(Host="localhost:1", Origin="null"))
    assert not is_of_this_page(request(Host="localhost:1", Sec_Fetch_Site="cross-site"))
