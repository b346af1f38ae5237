"""Files of units: what is good goes in as it is written, what is bad is named by its line, however long or odd."""

from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stripedjob.cli.exits import DataError
from stripedjob.cli.lines import LINE_CHARACTERS_MAX, Lines
from stripedjob.cli.read import Format, Reader


def lines_of(data: bytes | str, longest: int = LINE_CHARACTERS_MAX) -> Lines:
    data = data.encode(errors="surrogateescape") if isinstance(data, str) else data
    return Lines(io.TextIOWrapper(io.BytesIO(data), "utf-8-sig", "surrogateescape", ""), longest)


def read(form: Format, data: bytes | str, longest: int = LINE_CHARACTERS_MAX) -> tuple[list[str | None], list[str]]:
    """The payloads of the good lines, and what is said of the bad ones."""
    reader = Reader(form)
    return [unit.payload_json for unit in reader.units(lines_of(data, longest))], reader.bad


def as_csv(*rows: list[str]) -> str:
    made = io.StringIO()
    csv.writer(made).writerows([["resource", "payload"], *rows])
    return made.getvalue()


WRITTEN = [
    *("12345678901234567890.12", "1e-400", "-0", "1e400", "1e999999", "-0.0", "1" * 6000),
    *('{"b": 1, "a": 1,"b":2}', "[ 1 , 2]", '"\\u0000"', '"\\u00e9é"', '"\\ud83d\\ude00"', "null", "{}", '"}"'),
]


@pytest.mark.parametrize("text", WRITTEN)
def test_a_payload_is_kept_as_it_is_written(text: str) -> None:
    assert read("jsonl", f'{{"resource": "a", "payload": {text} , "importance": 1}}\n') == ([text], [])
    assert read("jsonl", f'\t{{"payload":{text},"resource":"a"}} \r\n') == ([text], [])
    assert read("csv", as_csv(["a", text])) == ([text], [])


jsons = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(jsons, st.booleans(), st.sampled_from([None, 1]))
def test_any_json_is_kept(value: object, ascii_only: bool, indent: int | None) -> None:  # noqa: FBT001
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    if indent is None:
        assert read("jsonl", f'{{"payload": {text}, "resource": "a"}}\n') == ([text], [])
    assert read("csv", as_csv(["a", text])) == ([text], [])


GOOD = '{"resource": "a", "payload": 1}'
BAD_LINES: dict[str, tuple[str | bytes, str]] = {
    "NaN": ('{"resource": "a", "payload": NaN}', "NaN is not in JSON"),
    "infinity": ('{"resource": "a", "payload": [-Infinity]}', "-Infinity is not in JSON"),
    "a key twice": ('{"resource": "a", "payload": 1, "payload": 2}', "the key 'payload' is there twice"),
    "half a surrogate pair": ('{"resource": "a", "payload": "\\ud800"}', "half of a surrogate pair"),
    "half a pair in a resource": ('{"resource": "\\ud800"}', "half of a surrogate pair"),
    "too deep": ('{"resource": "a", "payload": ' + "[" * 100_000 + "}", "nested too deep"),
    "deep alone": ("[" * 100_000, "nested too deep"),
    "no object": ("[1]", "it is [1], not a JSON object"),
    "not UTF-8": (b'{"resource": "\xff"}', "it is not UTF-8 text"),
    "more behind it": (GOOD + " x", "there is more after its end"),
    "no quotes": ("{a: 1}", "is not JSON"),
    "a number for a key": ("{1: 1}", "a key is not in quotes"),
    "a comma at the end": ('{"resource": "a",}', "is not JSON"),
    "no comma": ('{"resource": "a" "payload": 1}', "expecting ','"),
    "no colon": ('{"resource" "a"}', "expecting ':'"),
    "no end": ('{"resource": "a"', "expecting ','"),
    "nothing in it": ("{}", "resource is missing"),
    "an importance of 1e400": ('{"resource": "a", "importance": 1e400}', "importance inf is not a whole number"),
    "an importance of 5000 digits": ('{"resource": "a", "importance": ' + "1" * 5000 + "}", "importance is not JSON"),
    "too long": ('{"resource": "a", "payload": "' + "x" * 300_000 + '"}', "it has more than 200000 characters"),
}


@pytest.mark.parametrize("what", BAD_LINES)
def test_a_bad_line_of_jsonl_is_named_and_passed_over(what: str) -> None:
    line, message = BAD_LINES[what]
    line = line if isinstance(line, bytes) else line.encode()
    good, bad = read("jsonl", b"\n".join([GOOD.encode(), line, GOOD.encode()]), 200_000)
    assert good == ["1", "1"]
    assert len(bad) == 1
    assert bad[0].startswith("line 2: ")
    assert message in bad[0]


BAD_RECORDS = {
    "not JSON": (b"a,x", "the payload is not JSON"),
    "NaN": (b"a,NaN", "NaN is not in JSON"),
    "not UTF-8": (b'a,"""\xff"""', "it is not UTF-8 text"),
    "a field more": (b"a,1,2", "it has 3 fields"),
    "a quote in the middle": (b'a,"1"2', "expected"),
    "too long": (b'a,"""' + b"x" * 300_000 + b'"""', "it has more than 200000 characters"),
}


@pytest.mark.parametrize("what", BAD_RECORDS)
def test_a_bad_record_of_csv_is_named_and_passed_over(what: str) -> None:
    record, message = BAD_RECORDS[what]
    good, bad = read("csv", b"\r\n".join([b"resource,payload", b"a,1", record, b"a,1", b""]), 200_000)
    assert good == ["1", "1"]
    assert len(bad) == 1
    assert bad[0].startswith("line 3: ")
    assert message in bad[0]


@pytest.mark.parametrize(
    "header", ["resource,payload,payload", "resource,resource,payload", "a,b", "", '"resource', "\xff"]
)
def test_a_header_that_cannot_be_used_is_refused(header: str) -> None:
    with pytest.raises(DataError, match=r"line \d: "):
        read("csv", header.encode("latin-1") + b"\na,1\n")


def test_a_cell_is_as_long_as_a_line() -> None:
    text = json.dumps("x" * 1_000_000)
    assert read("csv", as_csv(["a", text])) == ([text], [])


class Watched(io.TextIOWrapper):
    """Remembers how much was given at once."""

    most = 0

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]
        line = super().readline(size)
        self.most = max(self.most, len(line))
        return line


def test_neither_a_long_line_nor_an_open_quote_is_kept_in_memory() -> None:
    watched = Watched(io.BytesIO(b"a" * 10_000 + b"\nb\n"), newline="")
    lines = Lines(watched, 100)
    with pytest.raises(DataError, match="more than 100 characters"):
        next(lines)
    assert next(lines) == "b\n"
    assert watched.most == 101
    good, bad = read("csv", 'resource,payload\na,"1\n' + "b,2\n" * 1000, 100)
    assert "field larger than field limit (100)" in bad[0]
    assert len(good) > 900
