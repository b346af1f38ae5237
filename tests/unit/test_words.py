from __future__ import annotations

import psycopg
import pytest

from stripedjob.locks import LockConfigError, LockUnavailable
from stripedjob.pool.errors import PoolError, PoolRefusedError, PoolSchemaError, PoolUnreachableError
from stripedjob_operator.urls import UrlError, check_postgres, check_redis, without_secrets
from stripedjob_operator.words import lock_problem, origin, pool_problem, schedule_problem

AT = "h:5432"


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "reason", "words"),
    [
        (PoolUnreachableError("Postgres did not answer within 10 s"), "PoolUnreachable", "did not answer in time"),
        (PoolUnreachableError("…: Connection refused"), "PoolUnreachable", "nothing listens there"),
        (PoolUnreachableError("failed to resolve host"), "PoolUnreachable", "name cannot be resolved"),
        (PoolUnreachableError("something of theirs"), "PoolUnreachable", "there is no connection"),
        (PoolRefusedError("password authentication failed for"), "PoolRefused", "password authentication failed"),
        (PoolRefusedError('database "x" does not exist'), "PoolRefused", "no such database"),
        (PoolRefusedError("something of theirs"), "PoolRefused", "it refuses user, password or database"),
        (
            caused(PoolRefusedError("verboten"), psycopg.errors.InsufficientPrivilege()),
            "PoolRefused",
            "permission denied",
        ),
        (caused(PoolError("theirs"), psycopg.errors.CheckViolation()), "PoolRefused", "(SQLSTATE 23514)"),
        (PoolSchemaError("at version 99"), "PoolSchema", "at version 99"),
        (KeyError("something of theirs"), "PoolRefused", "answers otherwise than a pool does"),
    ],
)
def test_a_pool_s_problem_is_told_in_our_words(error: Exception, reason: str, words: str) -> None:
    problem = pool_problem(error, AT)
    assert problem.reason == reason
    assert words in problem.message
    assert "theirs" not in problem.message
    assert AT in problem.message or reason == "PoolSchema"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (LockUnavailable("something of theirs"), "it cannot be reached"),
        (LockConfigError("something of theirs"), "it cannot be used as it is set up"),
        (caused(LockUnavailable("theirs"), ConnectionRefusedError()), "nothing listens there"),
        (TimeoutError(), "it did not answer in time"),
        (KeyError("theirs"), "it answers otherwise than a lock backend does"),
    ],
)
def test_a_lock_backend_s_problem_is_told_in_our_words(error: Exception, words: str) -> None:
    problem = lock_problem(error, AT)
    assert problem.reason == "LockUnreachable"
    assert f"the lock backend at {AT}: {words}" in problem.message
    assert "theirs" not in problem.message


def test_a_schedule_s_problem_has_no_piece_of_the_url() -> None:
    query = caused(PoolError("theirs"), psycopg.errors.QueryCanceled())
    assert schedule_problem(query, 60, "").message == "spec.schedule.enqueue.sql: it took longer than 60 s"
    told = without_secrets('no "hunter2"', ["postgresql://app:hunter2@h/db"])
    assert told == 'no "…"'
    lost = PoolUnreachableError("the server closed the connection")
    assert schedule_problem(lost, 60, "").message == "spec.schedule.enqueue.sql: the connection was lost while it ran"


def test_the_origin_of_an_error_has_none_of_its_words() -> None:
    with pytest.raises(KeyError) as caught:
        {"ours": 1}["theirs"]
    assert origin(caught.value).startswith("KeyError in test_words.py, line ")


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("postgresql://u:p@h/db", "h:5432"),
        ("postgresql://u:p@h1:1,h2/db", "h1:1, h2:5432"),
        ("postgresql://u:p@h1,h2/db?port=7", "h1:7, h2:7"),
        ("postgresql://u:p@[::1]:7/db?sslmode=verify-full&sslrootcert=system", "::1:7"),
        ("host=/run port=7 user=u", "a unix socket"),
        ("postgresql:///db?host=h&user=me@server&password=p@p", "h:5432"),
    ],
)
def test_a_pool_is_named_by_host_and_port(url: str, where: str) -> None:
    assert check_postgres(url) == where


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("redis://h", "h"),
        ("rediss://u:p@h:7/1?ssl_cert_reqs=none", "h:7"),
        ("unix://u:p@/run/redis.sock?db=1", "a unix socket"),
        ("redis+sentinel://u:p@h1:1,h2:2/main/0?sentinel_password=p", "h1:1, h2:2"),
        ("redis+cluster://u:p@h1,h2", "h1, h2"),
    ],
)
def test_a_lock_backend_is_named_by_host_and_port(url: str, where: str) -> None:
    assert check_redis(url) == where


@pytest.mark.parametrize("check", [check_postgres, check_redis])
@pytest.mark.parametrize("url", ["", " ", "secret", "://secret", "http://secret@h", "secret=1", "h:1"])
def test_what_is_no_url_is_refused_without_a_word_of_it(check: object, url: str) -> None:
    assert callable(check)
    with pytest.raises(UrlError) as caught:
        check(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://app:hunter2@h/db",
        "postgresql+asyncpg://app:hunter2@h/db",
        '"postgres//app:hunter2@h/db"',
        "postgresql:///db?host=h&password=hunter2",
        "host=h password=hunter2 user=app",
        "redis://:hunt%65r2@h",
        "redis://:any/hunter2@h",
        "redis://:hunter2?any@h",
    ],
)
def test_somebody_else_s_words_lose_the_password(url: str) -> None:
    assert without_secrets("app: port 'hunter2' of h", [url]) == "app: port '…' of h"
