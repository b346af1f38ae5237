"""Handler `python`: a function of the user's, found by its name and looked at before it is called."""

import difflib
import functools
import importlib
import inspect
from collections.abc import Callable
from typing import Any


def is_coroutine_function(function: Callable[..., Any]) -> bool:
    """Tell whether its calls run in an event loop: an `async def`, also in a partial, as a method, or as `__call__`.

    A plain function around a coroutine function is none: it may well run that by itself. What it returns decides.
    """
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def load_function(name: str, arguments: int) -> Callable[..., Any]:
    """Import `pkg.mod:func`, which is to take so many arguments; raises ImportError, TypeError, or what it raises."""
    module_name, _, attribute = name.partition(":")
    found: Any = importlib.import_module(module_name)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ImportError(f"module {module_name} has no {attribute}{_near(found, part)}")
        found = getattr(found, part)
    if not callable(found):
        raise TypeError(f"it is a {type(found).__name__}, not a function")
    _check_arguments(found, arguments)
    return found  # type: ignore[no-any-return]


def _near(found: Any, part: str) -> str:
    near = difflib.get_close_matches(part, vars(found), 1) if hasattr(found, "__dict__") else []
    return f"; did you mean {near[0]}?" if near else ""


def _check_arguments(function: Callable[..., Any], arguments: int) -> None:
    """Raise TypeError where a function cannot be called so; one that does not say what it takes is let be.

    A wrapper is looked at itself, not what it wraps: it may well add arguments.
    """
    try:
        if hasattr(function, "__signature__"):
            return
        signature = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*[None] * arguments)
    except TypeError as error:
        what = "the unit" if arguments == 1 else "the unit and the connection, since transaction is true"
        name = getattr(function, "__name__", type(function).__name__)
        raise TypeError(f"it is called with {what}, but is {name}{signature}: {error}") from None
