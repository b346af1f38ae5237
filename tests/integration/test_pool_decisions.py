"""Whether somebody is called for new units is decided once in 10 ms, for all that put units into the job.

The time stands still, and is turned by the tests.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import errors
from tests.support.queues import FIFO, Queue, heard, listening, queue
from tests.support.turned import turn, turned

if TYPE_CHECKING:
    from collections.abc import Iterator

MUTEX = replace(FIFO, on_failure="Skip", schedule_limit=4)
PUT = "select striped.enqueue('sync', 'r')"
PUT_ELSEWHERE = "select striped.enqueue('else', 'r')"
COME_MS = 100  # which who was called has, before somebody is called again


@pytest.fixture
def pool(queue_database: str) -> Iterator[Queue]:
    with queue(queue_database, MUTEX) as made:
        turned(made.db)
        yield made


@pytest.fixture
def ear(pool: Queue, queue_database: str) -> Iterator[psycopg.Connection]:
    with listening(queue_database, pool.job_id) as conn:
        yield conn


@pytest.fixture
def other(queue_database: str) -> Iterator[psycopg.Connection]:
    """Another who puts units in."""
    with psycopg.connect(queue_database, autocommit=True) as conn:
        yield conn


def calls(ear: psycopg.Connection) -> int:
    return len(heard(ear))


def test_a_decision_is_good_for_ten_milliseconds_and_for_all(
    pool: Queue, ear: psycopg.Connection, other: psycopg.Connection
) -> None:
    pool.worker()
    turn(pool.db, 1000)
    pool.db.execute(PUT)
    turn(pool.db, 1004)
    other.execute(PUT)
    assert calls(ear) == 1
    turn(pool.db, 1010)
    pool.worker()
    pool.db.execute("update striped.worker set polled_at = striped.clock()")  # who was called has come
    other.execute(PUT)
    assert calls(ear) == 1


def test_that_nobody_need_be_called_is_a_decision_too(
    pool: Queue, ear: psycopg.Connection, other: psycopg.Connection
) -> None:
    turn(pool.db, 2000)
    pool.worker()
    pool.db.execute("update striped.worker set working = true")
    other.execute(PUT)
    pool.db.execute("update striped.worker set working = false")
    pool.db.execute(PUT)
    assert calls(ear) == 0
    turn(pool.db, 2010)
    pool.db.execute(PUT)
    assert calls(ear) == 1


@pytest.mark.parametrize(("settled_ms", "called"), [(9, 0), (11, 1)])
def test_a_worker_that_has_settled_is_expected_for_ten_milliseconds(
    pool: Queue, ear: psycopg.Connection, settled_ms: int, called: int
) -> None:
    turn(pool.db, 3000)
    back, _ = pool.worker(), pool.worker()
    pool.db.execute("update striped.worker set working = true, settled_at = striped.clock() where id = %s", [back])
    turn(pool.db, 3000 + settled_ms)
    pool.db.execute(PUT)
    assert calls(ear) == called


@pytest.mark.parametrize(("settled_ms", "claimable"), [(9, False), (11, True)])
def test_what_another_is_about_to_claim_is_left_to_it(pool: Queue, settled_ms: int, *, claimable: bool) -> None:
    turn(pool.db, 3000)
    back, idle = pool.worker(), pool.worker()
    pool.put("a")
    pool.db.execute("update striped.worker set working = true, settled_at = striped.clock() where id = %s", [back])
    turn(pool.db, 3000 + settled_ms)
    assert pool.runner.run(pool.pool.poll(idle)).claimable == claimable
    assert pool.runner.run(pool.pool.poll(back)).claimable  # whoever asks is nobody else


@pytest.mark.parametrize("how", ["polls", "claims"])
def test_who_was_called_is_given_time_to_come(pool: Queue, ear: psycopg.Connection, how: str) -> None:
    turn(pool.db, 4000)
    worker = pool.worker()
    pool.worker()
    for at in (4000, 4010, 4050, 4000 + COME_MS - 10):
        turn(pool.db, at)
        pool.db.execute(PUT)
    assert calls(ear) == 1
    turn(pool.db, 4000 + COME_MS)
    pool.db.execute(PUT)
    assert calls(ear) == 1  # it may never come
    turn(pool.db, 4000 + COME_MS + 20)
    pool.db.execute("select striped.upkeep(%s)", [pool.job_id])
    pool.runner.run(pool.pool.poll(worker) if how == "polls" else pool.pool.claim(worker, 1, 1))
    calls(ear)
    pool.db.execute(PUT)
    assert calls(ear) == 1  # it has


def test_a_time_long_past_is_none_that_somebody_was_called_at(pool: Queue, ear: psycopg.Connection) -> None:
    """Nor is one to come: the clock was set back."""
    pool.worker()
    for at in (90_000_000, 5000, 5_000_000):
        turn(pool.db, at)
        pool.db.execute(PUT)
        assert calls(ear) == 1


def test_each_job_has_its_own(pool: Queue, ear: psycopg.Connection) -> None:
    turn(pool.db, 6000)
    pool.worker()
    pool.db.execute("insert into striped.job (namespace, job_type) values ('default', 'else')")
    for _ in range(2):
        pool.db.execute(PUT_ELSEWHERE)
        pool.db.execute("update striped.worker set polled_at = striped.clock() + interval '1 ms'")
        pool.db.execute(PUT)
    assert calls(ear) == 4


def test_a_delegator_is_called_again_whoever_came(pool: Queue, ear: psycopg.Connection) -> None:
    """It is none of the workers, whose signs of life say nothing of it."""
    pool.db.execute("update striped.job set delegated = true where id = %s", [pool.job_id])
    pool.worker()
    for at in (7000, 7010, 7020):
        turn(pool.db, at)
        pool.db.execute(PUT)
    assert calls(ear) == 3


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_a_transaction_that_sees_what_was_decides_for_itself_alone(
    pool: Queue, ear: psycopg.Connection, other: psycopg.Connection, isolation: str
) -> None:
    turn(pool.db, 8000)
    worker = pool.worker()
    pool.db.execute("update striped.worker set working = true where id = %s", [worker])
    with other.transaction():
        other.execute(f"set transaction isolation level {isolation}".encode())
        other.execute("select count(*) from striped.worker")
        pool.db.execute("update striped.worker set working = false")
        pool.db.execute(PUT)  # decides, and calls
        turn(pool.db, 8200)
        other.execute(PUT)  # sees nobody idle
    assert calls(ear) == 1
    pool.db.execute(PUT)
    assert calls(ear) == 1


def test_what_is_undone_later_fails_nobody(pool: Queue, ear: psycopg.Connection, other: psycopg.Connection) -> None:
    """Its decision stays, and its call is never made; who comes 100 ms later calls."""
    turn(pool.db, 9000)
    pool.worker()
    other.execute("begin")
    other.execute(PUT)
    other.execute("set constraints all immediate")
    other.execute("rollback")
    pool.db.execute(PUT)
    assert calls(ear) == 0
    turn(pool.db, 9000 + COME_MS)
    pool.db.execute(PUT)
    assert calls(ear) == 1


def test_serializable_transactions_do_not_fail_each_other(pool: Queue, queue_database: str) -> None:
    turn(pool.db, 10_000)
    pool.worker()
    with psycopg.connect(queue_database) as first, psycopg.connect(queue_database) as second:
        for conn in (first, second):
            conn.execute("set transaction isolation level serializable")
            conn.execute(PUT.replace("'r'", f"'{conn.info.backend_pid}'").encode())
        first.commit()
        try:
            second.commit()
        except errors.SerializationFailure as error:
            pytest.fail(str(error))


def test_the_operator_is_called_again_whatever_came_of_it(pool: Queue, ear: psycopg.Connection) -> None:
    """It puts off by itself what it hears of too often; a job without workers has nobody else who looks."""
    for at in (7000, 7010, 7020):
        turn(pool.db, at)
        pool.db.execute(PUT)
        assert calls(ear) == 1
