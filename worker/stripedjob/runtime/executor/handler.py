"""From a handler's description to something that can be called with a unit. The executor calls `make` once.

Each kind is imported only when it is asked for: aiohttp and psycopg cost memory that a plain function does not need.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from stripedjob.pool.types import Database
from stripedjob.runtime.handlers.python import is_coroutine_function, load_function
from stripedjob.runtime.handlers.results import Finishing, finishing_async
from stripedjob.runtime.handlers.settings import HandlerSettings
from stripedjob.runtime.shared_state import SharedState


@dataclass(frozen=True, slots=True)
class Handler:
    """What `make` gives: a call for each slot, since a call may own a connection, a process or an event loop.

    `for_slot` gives a context manager, asynchronous where `is_async`, in which the call works. Where `takes_tasks`,
    that is a Sharing or SharingAsync, which is called with a task's Progress.
    """

    for_slot: Callable[[int], Any]
    is_async: bool
    takes_tasks: bool = False


def make(settings: HandlerSettings, shared_state: SharedState) -> Handler:
    """Find the handler; raises ImportError, TypeError, FileNotFoundError, or whatever the user's module raises."""
    match settings.kind:
        case "exec":
            from stripedjob.runtime.handlers.command import Command, find  # noqa: PLC0415 - see the module's docstring

            argv = find(settings.target)
            return Handler(
                lambda slot: contextlib.nullcontext(Command(argv, settings.timeout_seconds, shared_state, slot)),
                is_async=True,
            )
        case "http":
            from stripedjob.runtime.handlers.endpoint import Endpoint  # noqa: PLC0415 - see the module's docstring

            return Handler(lambda _slot: Endpoint(settings.target[0], settings.timeout_seconds), is_async=True)
    function = load_function(settings.target[0], settings.arguments)
    is_async = is_coroutine_function(function)
    if settings.database is not None:
        return Handler(_transactional(function, settings.database, is_async=is_async), is_async, takes_tasks=True)
    if is_async:
        return Handler(lambda _slot: contextlib.nullcontext(finishing_async(function)), is_async=True)
    return Handler(lambda _slot: contextlib.closing(Finishing(function)), is_async=False)


def _transactional(function: Callable[..., Any], database: Database, *, is_async: bool) -> Callable[[int], Any]:
    from stripedjob.runtime.executor.sharing import Sharing, SharingAsync  # noqa: PLC0415 - as in make

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
