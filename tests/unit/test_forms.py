"""The API server's pattern of cron lets through all that CronSim takes, and of what CronSim refuses two kinds only."""

from __future__ import annotations

import datetime as dt
import re

import pytest
from cronsim import CronSim, CronSimError
from hypothesis import given, settings
from hypothesis import strategies as st

from stripedjob.spec.forms import CRON_PATTERN, is_cron, is_http_url, is_time_zone

CASES_MAX = 500
atoms = st.sampled_from(["*", "0", "1", "5", "07", "12", "23", "24", "31", "32", "59", "60", "100", "L", "LW", "5L"])
names = st.sampled_from(["jan", "DEC", "mon", "Sun", "MONDAY", "mon#2", "5#5", "1#6", "#", "?", "W", "", "-1", "²"])
ranges = st.tuples(atoms | names, atoms | names).map("-".join)
steps = st.tuples(atoms | names | ranges, st.sampled_from(["1", "2", "0", "00", "015", "x", "", "2/3"])).map("/".join)
terms = atoms | names | ranges | steps
fields = terms | st.lists(terms, min_size=2, max_size=3).map(",".join)
expressions = st.lists(fields, min_size=4, max_size=6).map(" ".join) | st.lists(
    st.sampled_from(["*", "*/5", "1", "1-5"]) | fields, min_size=5, max_size=5
).map(" ".join)


def cronsim_takes(text: str) -> bool:
    try:
        CronSim(text, dt.datetime.fromtimestamp(0, dt.UTC))
    except CronSimError:
        return False
    return len(text.split()) == 5


def runs_backwards_or_never(text: str) -> bool:
    """Return whether only the order of a range, or a day that no month has, is wrong."""
    open_ranges = re.sub(r"[^ ,/]+-([^ ,/]+)", r"\1", text)
    return cronsim_takes(open_ranges) or cronsim_takes(re.sub(r"^(\S+ +\S+ +)\S+", r"\g<1>1", open_ranges))


@settings(max_examples=CASES_MAX)
@given(expressions)
def test_the_pattern_and_cronsim_agree(text: str) -> None:
    matches = re.fullmatch(CRON_PATTERN, text) is not None
    if cronsim_takes(text):
        assert matches
        assert is_cron(text)
    elif matches:
        assert runs_backwards_or_never(text)
        assert not is_cron(text)


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("*/15 0-6,12 1,15 * mon-fri", True),
        ("0 0 L * *", True),
        ("0 12 * * FRI#1,5L", True),
        ("5-1 * * * *", True),  # beyond a pattern
        ("0 0 31 2 *", True),  # beyond a pattern
        ("61 * * * *", False),
        ("* 24 * * *", False),
        ("* * 0 * *", False),
        ("* * * 13 *", False),
        ("* * * * 8", False),
        ("*/0 * * * *", False),
        ("0 * * * * *", False),  # with seconds, which CronSim would take
        ("@daily", False),
        ("", False),
    ],
)
def test_the_pattern(text: str, matches: bool) -> None:  # noqa: FBT001 - a table
    assert (re.fullmatch(CRON_PATTERN, text) is not None) == matches


def test_zones_and_urls() -> None:
    assert [is_time_zone(one) for one in ("UTC", "Europe/Berlin", "Mars", "+02:00", "../UTC", "")] == [True] * 2 + [
        False
    ] * 4
    good = ("http://a", "https://u:p@[::1]:8080/b?c#d")
    assert [
        one for one in (*good, "ftp://a", "a", "http://", "http:///a", "http://[::1", "http://a b") if is_http_url(one)
    ] == list(good)
