"""A connection, and a thread that runs what it is to do, so that somebody else can see it wait."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    from collections.abc import Callable

OPTIONS = "-c deadlock_timeout=50ms -c statement_timeout=30s"


class Session:
    """A connection, and the thread that runs its steps one after the other."""

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        self.conn = psycopg.connect(url, autocommit=True, application_name=name, options=OPTIONS)
        self.pid = self.conn.info.backend_pid
        self.step = ""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._running: Future[object] | None = None

    @property
    def busy(self) -> bool:
        return self._running is not None

    @property
    def answered(self) -> bool:
        return self._running is not None and self._running.done()

    def start(self, step: str, action: Callable[[psycopg.Connection], object]) -> None:
        """Begin a step; what it returns or raises is to be taken."""
        assert self._running is None, f"{self.step} has not been taken"
        self.step = f"{self.name}.{step}"
        self._running = self._thread.submit(action, self.conn)

    def take(self) -> object:
        """Return what the step returned, or raise what it raised; the session is free again."""
        assert self._running is not None
        answer, self._running = self._running, None
        return answer.result()

    def await_answer(self, seconds: float) -> None:
        assert self._running is not None
        self._running.exception(seconds)

    def close(self) -> None:
        self._thread.shutdown()
        self.conn.close()
