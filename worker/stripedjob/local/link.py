"""The supervisor's connection to the pool, which may be lost and found again while it runs."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import TypeVar

from stripedjob.pool.client.operator import OperatorPool
from stripedjob.pool.errors import PoolConfigError, PoolError, PoolRefusedError, PoolSchemaError

UNREACHABLE_SECONDS_MAX = 600.0
LASTING = (PoolConfigError, PoolRefusedError, PoolSchemaError)  # a person has to fix it
Answer = TypeVar("Answer")


@dataclass(slots=True)
class Link:
    """Asks the pool, and connects again for the next question after one has failed. `note`: where that is said."""

    open_pool: Callable[[], AbstractContextManager[OperatorPool]]
    note: Callable[[str], None]
    _stack: ExitStack = field(default_factory=ExitStack)
    _pool: OperatorPool | None = None
    _away_since: float | None = None
    away: str = ""  # why the last question had no answer

    def ask(self, question: Callable[[OperatorPool], Answer]) -> Answer | None:
        """Return the answer, or None while the pool does not give any. Raises PoolError for what lasts."""
        try:
            if self._pool is None:
                self._pool = self._stack.enter_context(self.open_pool())
            answer = question(self._pool)
        except LASTING:
            raise
        except PoolError as error:
            self.close()
            self._is_away(error)
            return None
        self._away_since, self.away = None, ""
        return answer

    def close(self) -> None:
        """Give the connection up."""
        self._pool = None
        self._stack.close()

    def _is_away(self, error: PoolError) -> None:
        now = time.monotonic()
        self.away = str(error)
        if self._away_since is None:
            self.note(f"{error}; trying again")
            self._away_since = now
        if now - self._away_since > UNREACHABLE_SECONDS_MAX:
            raise error
