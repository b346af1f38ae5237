"""From a handler's description to something that can be called with a unit. The executor calls `make` once.

Each kind is imported only when it is asked for: aiohttp and psycopg cost memory that a plain function does not need.
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

from stripedjob.pool.types import Database
from stripedjob.runtime.handlers.around import Around, load_around, surrounded, surrounded_async
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


def make(settings: HandlerSettings, shared_state: SharedState, tries: Around | None = None) -> Handler:
    """Find it; `tries` is around each call, outside of the user's own.

    Raises ImportError, TypeError, FileNotFoundError, AroundError, or what the user's module raises.
    """
    match settings.kind:
        case "exec":
            from stripedjob.runtime.handlers.command import Command, find  # noqa: PLC0415 - see the module's docstring

            argv = find(settings.target)
            return Handler(
                lambda slot: contextlib.nullcontext(
                    surrounded_async(Command(argv, settings.timeout_seconds, shared_state, slot), tries)
                ),
                is_async=True,
            )
        case "http":
            from stripedjob.runtime.handlers.endpoint import Endpoint  # noqa: PLC0415 - see the module's docstring

            @contextlib.asynccontextmanager
            async def endpoint(_slot: int) -> AsyncIterator[Callable[..., Any]]:
                async with Endpoint(settings.target[0], settings.timeout_seconds) as post:
                    yield surrounded_async(post, tries)

            return Handler(endpoint, is_async=True)
    function = load_function(settings.target[0], settings.arguments)
    is_async = is_coroutine_function(function)
    around = load_around(settings.around, is_async=is_async)
    if is_async:
        coroutine = surrounded_async(surrounded_async(finishing_async(function), around), tries)
        if settings.database is None:
            return Handler(lambda _slot: contextlib.nullcontext(coroutine), is_async=True)
        return Handler(_sharing_async(coroutine, settings.database), is_async=True, takes_tasks=True)
    if settings.database is None:
        return Handler(lambda _slot: _finishing(function, around, tries), is_async=False)
    return Handler(_sharing(function, around, tries, settings.database), is_async=False, takes_tasks=True)


@contextlib.contextmanager
def _finishing(
    function: Callable[..., Any], around: Around | None, tries: Around | None
) -> Iterator[Callable[..., None]]:
    with contextlib.closing(Finishing(function)) as finishing:
        yield surrounded(surrounded(finishing, around), tries)


def _sharing(
    function: Callable[..., Any], around: Around | None, tries: Around | None, database: Database
) -> Callable[[int], Any]:
    from stripedjob.runtime.executor.sharing import Sharing  # noqa: PLC0415 - as in make

    @contextlib.contextmanager
    def for_slot(_slot: int) -> Iterator[Sharing]:
        with _finishing(function, around, tries) as call, contextlib.closing(Sharing(call, database)) as sharing:
            yield sharing

    return for_slot


def _sharing_async(coroutine: Callable[..., Any], database: Database) -> Callable[[int], Any]:
    from stripedjob.runtime.executor.sharing import SharingAsync  # noqa: PLC0415 - as in make

    return lambda _slot: contextlib.aclosing(SharingAsync(coroutine, database))
