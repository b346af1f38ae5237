"""What happened, in words: each event has some, and nobody forges a line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from stripedjob.telling import SINCE, WORDS, told

POOL = Path(__file__).parents[2] / "worker/stripedjob/pool/schema"
EVENT: dict[str, Any] = {
    "event": "",
    "resource": "r",
    "attempt": 2,
    "fence": 7,
    "who": "w",
    "state": None,
    "reason": None,
}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"event": "enqueued", "state": "ready", "who": None, "fence": None}, "put in"),
        ({"event": "enqueued", "state": "delayed"}, "put in, due later"),
        ({"event": "leased"}, "leased to w under fence 7, for try 2"),
        ({"event": "failed", "state": "held", "reason": "no"}, "try 2 failed at w under fence 7, it is held: no"),
        ({"event": "crashed", "state": "ready"}, "worker w died with it, crash 2, it is tried again"),
        ({"event": "cancelled", "who": "ann", "state": "dead", "reason": "why"}, "cancelled by ann: why"),
        ({"event": "cancelled", "who": "ann"}, "cancelled by ann; its lease ends first"),
        (
            {"event": "cancelled", "who": None, "state": "dead", "reason": "cancelled by ann"},
            "dead: cancelled by ann",
        ),
        ({"event": "paused", "resource": None, "who": "ann", "reason": "closed"}, "the job was paused by ann: closed"),
        ({"event": "resumed", "resource": None, "who": "ann"}, "the job was resumed by ann"),
        ({"event": "paused", "who": "{a}\n", "reason": "\x1b[31m{0}"}, r"paused by {a}\n: \x1b[31m{0}"),
    ],
)
def test_what_happened_in_words(given: dict[str, Any], words: str) -> None:
    assert told(EVENT | given) == words


def test_each_event_has_words() -> None:
    text = (POOL / "0006_history.sql").read_text()
    kinds = re.search(r"history_event as enum \((.*?)\);", text, re.DOTALL)
    assert kinds
    assert set(re.findall(r"'(\w+)'", kinds[1])) == set(WORDS)
    for kind in WORDS:
        for state in (*SINCE, None):
            assert told(EVENT | {"event": kind, "state": state}).isprintable()
    assert told(EVENT | {"event": "of a later version"}) == "of a later version"
