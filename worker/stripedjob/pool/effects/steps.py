"""One piece of code for psycopg's two kinds of connection, whose methods return a result, or an awaitable of it.

A generator yields what such a method returned, and gets the result: `run` hands it back, `run_async` awaits it first.
"""

from collections.abc import Generator
from typing import Any, TypeVar

T = TypeVar("T")
Steps = Generator[Any, Any, T]


def run(steps: Steps[T]) -> T:
    """Go through steps that need not be awaited; returns what they return, and raises what they raise."""
    result = None
    while True:
        try:
            result = steps.send(result)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


async def run_async(steps: Steps[T]) -> T:
    """Go through steps, awaiting each; returns what they return, and raises what they raise."""
    result, error = None, None
    while True:
        try:
            awaitable = steps.send(result) if error is None else steps.throw(error)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        try:
            result, error = await awaitable, None
        except BaseException as raised:  # noqa: BLE001 - for the steps to judge
            error = raised
