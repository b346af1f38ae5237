"""The one table of errors: what each SQLSTATE that a pool can meet means, and that words decide nothing."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors as psycopg_errors

from stripedjob.pool import errors
from stripedjob.pool.connection import foreign_errors
from stripedjob.pool.errors import PoolUnreachableError, class_of

EXPECTED = {
    errors.PoolUnreachableError: (
        *("08000", "08001", "08003", "08006", "08P01", "25006", "25P02", "25P03", "25P04", "53000", "53100", "53200"),
        *("53300", "57P01", "57P02", "57P03", "57P04", "57P05", "58000", "58030", "F0000", "XX000", "XX001", None, ""),
    ),
    errors.PoolRetryError: ("40001", "40P01", "40003", "55P03", "55006", "57014"),
    errors.PoolDataError: ("22P05", "22003", "22021", "22P02", "22007", "23514", "23505", "23502", "54000", "54001"),
    errors.PoolRefusedError: ("28000", "28P01", "3D000", "42501"),
    errors.PoolSchemaError: ("42883", "42P01", "42703", "3F000"),
    errors.WorkerLostError: ("SJ001",),
    errors.PoolError: ("P0002", "42601", "P0001", "0A000", "25001"),
}


@pytest.mark.parametrize(
    ("sqlstate", "kind"), [(sqlstate, kind) for kind, states in EXPECTED.items() for sqlstate in states]
)
def test_an_sqlstate_has_one_class(sqlstate: str | None, kind: type[errors.PoolError]) -> None:
    assert class_of(sqlstate) is kind


def test_what_psycopg_calls_operational_is_nobodys_try_or_a_persons_matter() -> None:
    """No error that the server or the connection makes is taken for the content of a unit."""
    for name in dir(psycopg_errors):
        found = getattr(psycopg_errors, name)
        if isinstance(found, type) and issubclass(found, psycopg_errors.OperationalError) and found.sqlstate:
            content = found.sqlstate.startswith("54")  # a limit of Postgres: what was sent is too much for it
            assert issubclass(class_of(found.sqlstate), errors.PoolDataError) == content, found


@pytest.mark.parametrize("kind", [psycopg.OperationalError, psycopg.InternalError])
def test_a_failure_without_a_code_is_a_lost_connection(kind: type[psycopg.Error]) -> None:
    """A pooler may say twice that a session was ended, of which psycopg makes an error of its own."""
    with pytest.raises(PoolUnreachableError), foreign_errors():
        raise kind("received 2 results from command 'COMMIT'")
