"""What a failure on the way to the handler and back means: a try of the unit, or nobody's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from stripedjob.pool.effects.transaction import _Try
from stripedjob.pool.errors import TryLostError

TWICE = psycopg.InternalError("received 2 results from command 'COMMIT'")  # psycopg's own: it has no code


def once(*, closed: bool = False) -> _Try:
    session: Any = SimpleNamespace(
        conn=SimpleNamespace(closed=closed, broken=closed), status=None, is_standby=lambda: False
    )
    return _Try(session, is_used=False)


def fail_at_the_commit(this: _Try, error: Exception) -> None:
    with this.judged():
        with this.called():
            pass
        raise error


@pytest.mark.parametrize(
    ("error", "closed"),
    [
        (TWICE, False),
        (psycopg.OperationalError("server closed the connection unexpectedly"), True),
        (psycopg.errors.AdminShutdown("terminating connection due to administrator command"), True),
    ],
)
def test_what_is_lost_at_the_commit_is_nobodys_try(error: psycopg.Error, *, closed: bool) -> None:
    with pytest.raises(TryLostError):
        fail_at_the_commit(once(closed=closed), error)


@pytest.mark.parametrize(
    "error",
    [
        psycopg.errors.IdleInTransactionSessionTimeout("terminating connection due to idle-in-transaction timeout"),
        psycopg.errors.ForeignKeyViolation("it refers to nothing"),
        KeyError("a"),
    ],
)
def test_what_the_handler_has_done_is_its_own(error: Exception) -> None:
    with pytest.raises(type(error)):
        fail_at_the_commit(once(), error)
