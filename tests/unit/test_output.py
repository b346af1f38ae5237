"""What processes write is read to its end, whatever it is, and kept within bounds."""

from __future__ import annotations

import json
import os
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stripedjob.local import output
from stripedjob.local.output import LINE_BYTES_MAX, LogLine, Output, Printed, Stream, hear, understood

RECORD: dict[str, Any] = {"event": "unit dead", "level": "ERROR", "timestamp": "2026-01-01T00:00:00", "reason": "é\n"}
ODD = {
    "deep JSON": b"[" * 200_000,
    "a deep object": b'{"a":' * 200_000,
    "no UTF-8": b"\xff\xfe{",
    "an open object": b"{",
    "half a surrogate pair": rb'{"level": "error", "event": "\ud800"}',
    "another's record": b'{"level": "error", "message": "not ours"}',
    "a number": b"1e999999",
    "many digits": b'{"event": ' + b"1" * 5000 + b"}",
    "a list": b'["event", "level", "timestamp"]',
    "nothing": b"",
    "a carriage return": b"50%\r100%\r",
    "binary": bytes(range(256)).replace(b"\n", b""),
}


def heard_of(data: bytes, stream: Stream = "stderr") -> tuple[list[LogLine | Printed], list[LogLine]]:
    """Write it into a real pipe that somebody hears."""
    heard, noted = Output(), list[LogLine]()
    reading, writing = os.pipe()
    reader = threading.Thread(target=hear, args=("w", stream, os.fdopen(reading, "rb"), heard, noted.append))
    reader.start()
    with os.fdopen(writing, "wb") as pipe:
        pipe.write(data)
    reader.join()
    taken, left_out = heard.take()
    assert not left_out
    return taken, noted


@pytest.mark.parametrize("what", ODD)
def test_an_odd_line_is_shown_and_does_not_end_the_reading(what: str) -> None:
    record = json.dumps(RECORD).encode()
    taken, noted = heard_of(b"\n".join([record, ODD[what], record]))
    shown = ODD[what].decode(errors="replace").rstrip("\r")
    assert taken == [LogLine("w", RECORD), Printed("w", "stderr", shown), LogLine("w", RECORD)]
    assert noted == [LogLine("w", RECORD)] * 2


@settings(deadline=None)
@given(st.binary())
def test_any_line_is_understood(line: bytes) -> None:
    assert isinstance(understood("w", "stderr", line), Printed)


def test_on_stdout_there_are_no_records() -> None:
    line = json.dumps(RECORD)
    assert heard_of(line.encode(), "stdout") == ([Printed("w", "stdout", line)], [])


@pytest.mark.parametrize("size", [LINE_BYTES_MAX - 1, LINE_BYTES_MAX, LINE_BYTES_MAX + 1, 3 * LINE_BYTES_MAX])
def test_of_a_long_line_the_beginning_is_kept(size: int) -> None:
    taken, _ = heard_of(b"x" * size + b"\nnext\n")
    first, second = taken
    assert isinstance(first, Printed)
    assert first.line == ("x" * size if size < LINE_BYTES_MAX else "x" * LINE_BYTES_MAX + "...")
    assert second == Printed("w", "stderr", "next")


def test_what_nobody_takes_is_bounded_and_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "UNHEARD_BYTES_MAX", 100)
    heard = Output()
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as pipe:
        reader = threading.Thread(target=hear, args=("w", "stdout", os.fdopen(reading, "rb"), heard, print))
        reader.start()
        pipe.write(b"123456789\n" * 100_000)  # more than a pipe holds
    reader.join()
    taken, left_out = heard.take()
    assert (len(taken), left_out) == (10, 99_990)
    assert heard.take() == ([], 0)
