"""Pure: JSON that is checked and taken apart, and never written again: what a file says is what the pool gets."""

import json
from typing import Any

from stripedjob.cli.exits import DataError

SPACE = " \t\n\r"


def check(text: str, what: str) -> None:
    """Raise DataError unless it is JSON."""
    _decode(_CHECKING, text, what)


def check_surrogates(text: str, what: str) -> None:
    """Raise DataError where JSON has half of a surrogate pair, in which case it cannot be written as UTF-8."""
    if "\\u" in text:
        try:
            json.dumps(_decode(_TEXTS, text, what), ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise DataError(f"{what} has half of a surrogate pair, which is not text") from None


def value(text: str, what: str) -> Any:
    """Return what the JSON says; raises DataError."""
    return _decode(_PLAIN, text, what)


def members(text: str, what: str) -> dict[str, str]:
    """Return the keys of an object with their values as they are written; raises DataError, also for a key twice."""
    at = _skip(text, 0)
    if text[at : at + 1] != "{":
        raise DataError(f"it is {shown(value(text, what))}, not a JSON object with resource and payload")
    found: dict[str, str] = {}
    at = _skip(text, at + 1)
    if text[at : at + 1] != "}":
        at = _read_members(text, at, what, found)
    if _skip(text, at + 1) != len(text):
        raise DataError(f"{what} is not JSON: there is more after its end, at character {at + 1}")
    return found


def shown(given: Any) -> str:
    """Return a glimpse of a value."""
    text = repr(given)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - a glimpse


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not in JSON")


# Numbers and objects are looked at and not made: digits have no bound, and a large payload takes little memory.
_CHECKING = json.JSONDecoder(
    parse_constant=_no_constant, parse_int=str, parse_float=str, object_pairs_hook=lambda _pairs: None
)
_TEXTS = json.JSONDecoder(parse_int=str, parse_float=str)
_PLAIN = json.JSONDecoder(parse_constant=_no_constant)


def _decode(decoder: json.JSONDecoder, text: str, what: str) -> Any:
    try:
        return decoder.decode(text)
    except ValueError as error:
        raise DataError(f"{what} is not JSON: {error}") from None
    except RecursionError:
        raise DataError(f"{what} is nested too deep") from None


def _read_members(text: str, at: int, what: str, found: dict[str, str]) -> int:
    """Read from the first key on; gives where the closing brace is."""
    while True:
        key, at = _next(text, at, what)
        if not isinstance(key, str) or text[at - 1] != '"':
            raise DataError(f"{what} is not JSON: a key is not in quotes, before character {at}")
        begins = _skip(text, _expect(text, _skip(text, at), ":", what))
        _, ends = _next(text, begins, what)
        if key in found:
            raise DataError(f"the key {shown(key)} is there twice")
        found[key] = text[begins:ends]
        at = _skip(text, ends)
        if text[at : at + 1] == "}":
            return at
        at = _skip(text, _expect(text, at, ",", what))


def _next(text: str, at: int, what: str) -> tuple[Any, int]:
    """Read one value; gives what a text says, and where the value ends."""
    try:
        return _CHECKING.raw_decode(text, at)
    except ValueError as error:
        raise DataError(f"{what} is not JSON: {error}") from None
    except RecursionError:
        raise DataError(f"{what} is nested too deep") from None


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in SPACE:
        at += 1
    return at


def _expect(text: str, at: int, sign: str, what: str) -> int:
    if text[at : at + 1] != sign:
        raise DataError(f"{what} is not JSON: expecting {sign!r} at character {at}")
    return at + 1
