"""psycopg's asynchronous connections for plain code in a thread, so that a handler of a test is written once."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg

PATIENCE_SECONDS = 180


class Blocking:
    """An asynchronous connection or cursor as a plain one, for a thread."""

    def __init__(
        self, conn: psycopg.AsyncConnection | psycopg.AsyncCursor[Any], loop: asyncio.AbstractEventLoop
    ) -> None:
        object.__setattr__(self, "_conn", conn)
        object.__setattr__(self, "_loop", loop)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._conn, name)
        if not callable(found):
            return found

        def call(*arguments: Any) -> Any:
            result = found(*arguments)
            if asyncio.iscoroutine(result):
                result = asyncio.run_coroutine_threadsafe(result, self._loop).result(PATIENCE_SECONDS)
            return Blocking(result, self._loop) if isinstance(result, psycopg.AsyncCursor) else result

        return call

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._conn, name, value)
