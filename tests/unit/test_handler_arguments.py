"""Which functions can be a handler: what could be called is never refused, what could not is, with what it takes."""

from __future__ import annotations

import functools
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest

from stripedjob.runtime.handlers.python import load_function

if TYPE_CHECKING:
    from collections.abc import Callable


def plain(unit: Any) -> None: ...


async def coroutine(unit: Any) -> None: ...


def optional(unit: Any, connection: Any = None, *, verbose: bool = False) -> None: ...


def anything(*args: Any, **options: Any) -> None: ...


def nothing() -> None: ...


def three(unit: Any, connection: Any, more: Any) -> None: ...


def named(unit: Any, *, session: Any) -> None: ...


def pair(unit: Any, connection: Any) -> None: ...


@functools.wraps(pair)
def injecting(unit: Any) -> None:  # it brings its own connection, and says that it is `pair`
    pair(unit, None)


@functools.wraps(plain)
def hiding(unit: Any, connection: Any, more: Any) -> None:
    plain((unit, connection, more))


class AnObject:
    def __call__(self, unit: Any) -> None: ...

    def method(self, unit: Any) -> None: ...

    @classmethod
    def of_class(cls, unit: Any) -> None: ...

    @staticmethod
    def static(unit: Any) -> None: ...


GOOD: dict[str, tuple[Callable[..., Any], int]] = {
    "a function": (plain, 1),
    "a coroutine function": (coroutine, 1),
    "an optional argument left out": (optional, 1),
    "an optional argument given": (optional, 2),
    "any arguments": (anything, 2),
    "a partial": (functools.partial(pair, connection=None), 1),
    "a wrapper that adds an argument": (injecting, 1),
    "an object": (AnObject(), 1),
    "a method": (AnObject().method, 1),
    "a method of the class": (AnObject.of_class, 1),
    "a static method": (AnObject.static, 1),
    "a builtin": (print, 1),
    "one that says nothing of itself": (max, 1),
    "a class": (dict, 1),
    "a mock": (Mock(), 1),
}
BAD: dict[str, tuple[Callable[..., Any], int, str]] = {
    "no argument": (nothing, 1, r"is nothing\(\) -> 'None': too many positional arguments"),
    "too many arguments": (three, 2, "missing a required argument: 'more'"),
    "a connection that is not given": (pair, 1, "missing a required argument: 'connection'"),
    "a connection that is not taken": (plain, 2, "called with the unit and the connection"),
    "a keyword that is not given": (named, 1, "missing a required.*argument: 'session'"),
    "a wrapper that takes more": (hiding, 1, "missing a required argument: 'connection'"),
    "a method of no object": (AnObject.method, 1, "missing a required argument: 'unit'"),
}


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, int], Any]:
    def loading(function: Any, arguments: int) -> Any:
        module = ModuleType("handlers_of_a_test")
        module.act = function  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return load_function("handlers_of_a_test:act", arguments)

    return loading


@pytest.mark.parametrize("name", GOOD)
def test_what_can_be_called_is_a_handler(load: Callable[[Any, int], Any], name: str) -> None:
    function, arguments = GOOD[name]
    assert load(function, arguments) == function


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_called_is_none(load: Callable[[Any, int], Any], name: str) -> None:
    function, arguments, words = BAD[name]
    with pytest.raises(TypeError, match=words):
        load(function, arguments)


def test_a_name_that_is_nearly_right_is_told(load: Callable[[Any, int], Any]) -> None:
    load(plain, 1)
    with pytest.raises(ImportError, match=r"has no atc; did you mean act\?"):
        load_function("handlers_of_a_test:atc", 1)
    with pytest.raises(TypeError, match="it is a int, not a function"):
        load(7, 1)
