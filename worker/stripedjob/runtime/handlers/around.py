"""spec.handler.around: a context manager of the user's around each call of a Python handler.

It is called with what the handler gets first, the unit or its resource's units, and gives the context manager of that
call. With `transaction: true` it is inside of the transaction. What it raises is the handler's own; where it swallows
what the handler raised, the handler has returned. A forked child that comes back out of it ends there, as out of a
handler.
"""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from stripedjob.runtime.forks import end_if_forked, process_id
from stripedjob.runtime.handlers.python import load_function

Around = Callable[[Any], Any]


class AroundError(Exception):
    """It cannot be loaded; the cause says why."""


def load_around(name: str, *, is_async: bool) -> Around | None:
    """Import it for a handler that is a coroutine function or not; None for "". Raises AroundError."""
    if not name:
        return None
    try:
        around = load_function(name, 1)
        _check(around, is_async=is_async)
    except BaseException as error:  # importing runs the user's code, which may also exit
        raise AroundError(name) from error
    return around


def _check(around: Around, *, is_async: bool) -> None:
    """Raise TypeError where it is seen to give no context manager, or one that the handler cannot be in."""
    if inspect.isgeneratorfunction(around):
        raise TypeError("it is a generator function: decorate it with contextlib.contextmanager")
    if inspect.isasyncgenfunction(around) or inspect.iscoroutinefunction(around):
        raise TypeError("it gives no context manager: decorate it with contextlib.asynccontextmanager")
    is_class = isinstance(around, type) and hasattr(around, "__aenter__") and not hasattr(around, "__enter__")
    if not is_async and (is_class or inspect.isasyncgenfunction(getattr(around, "__wrapped__", None))):
        raise TypeError("it is an asynchronous context manager, and the handler is no coroutine function")


def surrounded(call: Callable[..., None], around: Around | None) -> Callable[..., None]:
    """Return a function that makes each call inside of the context manager."""
    if around is None:
        return call
    pid = process_id()

    def surround(*arguments: Any) -> None:
        error: BaseException | None = None
        try:
            with around(arguments[0]):
                call(*arguments)
        except BaseException as raised:
            error = raised
            raise
        finally:
            end_if_forked(pid, error)

    return surround


def surrounded_async(call: Callable[..., Awaitable[None]], around: Around | None) -> Callable[..., Awaitable[None]]:
    """Do the same for coroutine functions; the context manager may be asynchronous or not."""
    if around is None:
        return call
    pid = process_id()

    async def surround(*arguments: Any) -> None:
        error: BaseException | None = None
        try:
            manager = around(arguments[0])
            if hasattr(type(manager), "__aenter__"):
                async with manager:
                    await call(*arguments)
            else:
                with manager:
                    await call(*arguments)
        except BaseException as raised:
            error = raised
            raise
        finally:
            end_if_forked(pid, error)

    return surround
