"""From a handler's description to something that can be called with a unit. The executor calls `make` once.

Each kind is imported only when it is asked for: aiohttp and psycopg cost memory that a plain function does not need.
"""

import importlib
import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from stripedjob.runtime.board import Board
from stripedjob.runtime.work import Unit

Call = Callable[[Any], Any]  # takes a unit, or the list of a resource's units; a coroutine function where is_async


@dataclass(frozen=True, slots=True)
class Database:
    """Where a transactional handler's transactions go."""

    url: str
    schema: str
    job_id: int


@dataclass(frozen=True, slots=True)
class HandlerSettings:
    """What to call: `target` is `pkg.mod:func`, the URL, or the command with its arguments."""

    kind: Literal["python", "exec", "http"]
    target: tuple[str, ...]
    timeout_seconds: float = 300.0
    per_resource: bool = False
    database: Database | None = None

    @property
    def ends_itself(self) -> bool:
        """Whether it keeps its time-out by itself: a command is ended alone, a Python function with its process."""
        return self.kind != "python"

    def __str__(self) -> str:
        """Name it as the StripedJob does."""
        return f"{self.kind}: {' '.join(self.target)}"


@dataclass(frozen=True, slots=True)
class Handler:
    """What `make` gives: a call for each slot, since a call may own a connection or a process."""

    for_slot: Callable[[int], Call]
    is_async: bool


def make(settings: HandlerSettings, board: Board) -> Handler:
    """Find the handler; raises ImportError, TypeError, FileNotFoundError, or whatever the user's module raises."""
    match settings.kind:
        case "exec":
            from stripedjob.runtime.command import Command, find  # noqa: PLC0415 - see the module's docstring

            argv = find(settings.target)
            return Handler(lambda slot: Command(argv, settings.timeout_seconds, board, slot), is_async=True)
        case "http":
            from stripedjob.runtime.endpoint import Endpoint  # noqa: PLC0415 - see the module's docstring

            endpoint = Endpoint(settings.target[0], settings.timeout_seconds)
            return Handler(lambda _slot: endpoint, is_async=True)
    function = load_function(settings.target[0])
    is_async = inspect.iscoroutinefunction(function)
    if settings.database is None:
        return Handler(lambda _slot: function, is_async)
    from stripedjob.pool.transaction import AsyncTransactional, Transactional  # noqa: PLC0415 - as above

    wrapper, database = (AsyncTransactional if is_async else Transactional), settings.database
    return Handler(lambda _slot: wrapper(function, database.url, database.schema, database.job_id), is_async)


def load_function(name: str) -> Callable[..., Any]:
    """Import `pkg.mod:func`; raises ImportError, or whatever the module raises."""
    module_name, _, attribute = name.partition(":")
    found: Any = importlib.import_module(module_name)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ImportError(f"module {module_name} has no {attribute}")
        found = getattr(found, part)
    if not callable(found):
        raise TypeError(f"it is a {type(found).__name__}, not a function")
    return found  # type: ignore[no-any-return]


def as_json(unit: Unit) -> bytes:
    """Give a unit as commands and endpoints get it: one JSON object."""
    head = {"id": unit.id, "resource": unit.resource, "fence": unit.fence, "attempt": unit.attempt}
    return (json.dumps(head, ensure_ascii=False)[:-1] + f', "payload": {unit.payload_text}}}').encode()
