"""What a handler returns is looked at: what has yet to run is run to its end, or refused, and never taken for done.

Used by handlers.py around every function of a user, also inside of a transaction. A forked child that comes back out of
the function goes no further: neither the transaction nor the executor is its own.
"""

import inspect
from collections.abc import Callable
from types import AsyncGeneratorType, GeneratorType
from typing import TYPE_CHECKING, Any

from stripedjob.runtime.forks import end_if_forked, process_id

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
        self._function, self._pid = function, process_id()
        self._runner: asyncio.Runner | None = None

    def __call__(self, *arguments: Any) -> None:
        """Call it, and run what it returns; raises NotRunError where that cannot be run. In a forked child: end it."""
        error: BaseException | None = None
        try:
            result = self._function(*arguments)
            if result is None:
                return
            while inspect.isawaitable(result):
                result = self._run(result)
            _refuse_unfinished(result)
        except BaseException as raised:
            error = raised
            raise
        finally:
            end_if_forked(self._pid, error)

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
    """Return a coroutine function that finishes what the function returns, as Finishing does."""
    pid = process_id()

    async def finish(*arguments: Any) -> None:
        error: BaseException | None = None
        try:
            result = function(*arguments)
            while inspect.isawaitable(result):
                result = await result
            _refuse_unfinished(result)
        except BaseException as raised:
            error = raised
            raise
        finally:
            end_if_forked(pid, error)

    return finish


async def _awaited(awaitable: "Awaitable[Any]") -> Any:
    return await awaitable


def _refuse_unfinished(result: Any) -> None:
    kind = type(result)
    if issubclass(kind, LAZY):
        raise NotRunError(f"the handler returned a {kind.__name__}, whose code has not run: return nothing, or run it")
    if hasattr(kind, "add_done_callback"):
        raise NotRunError(f"the handler returned a {kind.__name__}, and did not wait for it: return its result()")
