"""What a handler returns is looked at: what has yet to run is run to its end, or refused, and never taken for done.

Used by handlers.py around every function of a user, also inside of a transaction.
"""

import inspect
from collections.abc import Callable
from types import AsyncGeneratorType, GeneratorType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable

LAZY = (GeneratorType, AsyncGeneratorType, map, filter)


class NotRunError(Exception):
    """The handler returned something that has not run."""


class Finishing:
    """A function whose result is finished before a call returns. One for each slot, since it may own an event loop."""

    def __init__(self, function: Callable[..., Any]) -> None:
        """Take the function; the loop is made when it is first needed."""
        self._function = function
        self._runner: asyncio.Runner | None = None

    def __call__(self, *arguments: Any) -> None:
        """Call it, and run what it returns; raises NotRunError where that cannot be run."""
        result = self._function(*arguments)
        if result is None:
            return
        while inspect.isawaitable(result):
            result = self._run(result)
        _refuse_unfinished(result)

    def close(self) -> None:
        """Close the loop, and what still runs in it."""
        if self._runner is not None:
            self._runner.close()

    def _run(self, awaitable: "Awaitable[Any]") -> Any:
        if self._runner is None:
            import asyncio  # noqa: PLC0415 - 8 MB that most synchronous handlers do not need

            self._runner = asyncio.Runner()
        return self._runner.run(_awaited(awaitable))


def finishing_async(function: Callable[..., Any]) -> "Callable[..., Awaitable[None]]":
    """Give a coroutine function that finishes what the function returns, as Finishing does."""

    async def finish(*arguments: Any) -> None:
        result = function(*arguments)
        while inspect.isawaitable(result):
            result = await result
        _refuse_unfinished(result)

    return finish


async def _awaited(awaitable: "Awaitable[Any]") -> Any:
    return await awaitable


def _refuse_unfinished(result: Any) -> None:
    kind = type(result)
    if issubclass(kind, LAZY):
        raise NotRunError(f"the handler returned a {kind.__name__}, whose code has not run: return nothing, or run it")
    if hasattr(kind, "add_done_callback"):
        raise NotRunError(f"the handler returned a {kind.__name__}, and did not wait for it: return its result()")
