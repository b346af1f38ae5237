"""From a handler's description to something that can be called with a unit. The executor calls `make` once.

Each kind is imported only when it is asked for: aiohttp and psycopg cost memory that a plain function does not need.
"""

import contextlib
import difflib
import functools
import importlib
import inspect
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from stripedjob.runtime.board import Board
from stripedjob.runtime.results import Finishing, finishing_async
from stripedjob.runtime.work import Unit

Call = Callable[[Any], Any]  # takes a unit, or the list of a resource's units; a coroutine function where is_async


@dataclass(frozen=True, slots=True)
class Database:
    """Where a transactional handler's transactions go; `session_name` is what Postgres shows of the sessions."""

    url: str = field(repr=False)
    schema: str
    job_id: int
    session_name: str = "stripedjob"


@dataclass(frozen=True, slots=True)
class HandlerSettings:
    """What to call: `target` is `pkg.mod:func`, the URL, or the command with its arguments."""

    kind: Literal["python", "exec", "http"]
    target: tuple[str, ...]
    timeout_seconds: float = 300.0
    per_resource: bool = False
    database: Database | None = None

    @property
    def arguments(self) -> int:
        """How many arguments a Python function gets: a unit or its resource's units, and the connection."""
        return 1 if self.database is None else 2

    @property
    def ends_itself(self) -> bool:
        """Whether it keeps its time-out by itself: a command is ended alone, a Python function with its process."""
        return self.kind != "python"

    def __str__(self) -> str:
        """Name it as the StripedJob does."""
        return f"{self.kind}: {' '.join(self.target)}"


@dataclass(frozen=True, slots=True)
class Handler:
    """What `make` gives: a call for each slot, since a call may own a connection, a process or an event loop.

    `for_slot` gives a context manager, asynchronous where `is_async`, in which the call works. Where `takes_tasks`,
    that is a Sharing or SharingAsync, which is called with a task's Progress.
    """

    for_slot: Callable[[int], Any]
    is_async: bool
    takes_tasks: bool = False


def make(settings: HandlerSettings, board: Board) -> Handler:
    """Find the handler; raises ImportError, TypeError, FileNotFoundError, or whatever the user's module raises."""
    match settings.kind:
        case "exec":
            from stripedjob.runtime.command import Command, find  # noqa: PLC0415 - see the module's docstring

            argv = find(settings.target)
            return Handler(
                lambda slot: contextlib.nullcontext(Command(argv, settings.timeout_seconds, board, slot)), is_async=True
            )
        case "http":
            from stripedjob.runtime.endpoint import Endpoint  # noqa: PLC0415 - see the module's docstring

            return Handler(lambda _slot: Endpoint(settings.target[0], settings.timeout_seconds), is_async=True)
    function = load_function(settings.target[0], settings.arguments)
    is_async = is_coroutine_function(function)
    if settings.database is not None:
        return Handler(_transactional(function, settings.database, is_async=is_async), is_async, takes_tasks=True)
    if is_async:
        return Handler(lambda _slot: contextlib.nullcontext(finishing_async(function)), is_async=True)
    return Handler(lambda _slot: contextlib.closing(Finishing(function)), is_async=False)


def _transactional(function: Callable[..., Any], database: Database, *, is_async: bool) -> Callable[[int], Any]:
    from stripedjob.runtime.sharing import Sharing, SharingAsync  # noqa: PLC0415 - as in make

    if is_async:
        return lambda _slot: contextlib.aclosing(SharingAsync(finishing_async(function), database))

    @contextlib.contextmanager
    def for_slot(_slot: int) -> Iterator[Sharing]:
        with (
            contextlib.closing(Finishing(function)) as finishing,
            contextlib.closing(Sharing(finishing, database)) as sharing,
        ):
            yield sharing

    return for_slot


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


def as_json(unit: Unit) -> bytes:
    """Give a unit as commands and endpoints get it: one JSON object."""
    head = {"id": unit.id, "resource": unit.resource, "fence": unit.fence, "attempt": unit.attempt}
    return (json.dumps(head, ensure_ascii=False)[:-1] + f', "payload": {unit.payload_text}}}').encode()
