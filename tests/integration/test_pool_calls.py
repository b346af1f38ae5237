"""Idle workers are called when units are committed, and then alone; what is due by itself is waited for exactly."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
import pytest
from tests.support.queues import FIFO, Queue, heard, listening, queue
from tests.support.rights import as_role, new_role

from stripedjob.pool.client.worker import array_of_numbers, array_of_texts

if TYPE_CHECKING:
    from collections.abc import Iterator

MUTEX = replace(FIFO, on_failure="Skip", schedule_limit=2)


@pytest.fixture
def pool(queue_database: str) -> Iterator[Queue]:
    with queue(queue_database, MUTEX) as made:
        yield made


@pytest.fixture
def ear(pool: Queue, queue_database: str) -> Iterator[psycopg.Connection]:
    with listening(queue_database, pool.job_id) as conn:
        yield conn


def forget(pool: Queue) -> None:
    """Let it be long ago that somebody was called, or that it was decided whether."""
    pool.db.execute("select setval('striped.decided', 1), setval('striped.called', 1)")


ENQUEUE = "select striped.enqueue('sync', 'r', '1'{})"
WAYS = {
    "enqueue": ENQUEUE.format(""),
    "delayed": ENQUEUE.format(", due_at => now() + interval '1 h'"),
    "insert": "insert into striped.unit (job_id, resource) select {job}, 'r' || n from generate_series(1, 50) n",
    "many": "select striped.enqueue_rows('default', 'sync', '{{a,b}}', null, null, null, null)",
}


@pytest.mark.parametrize("way", WAYS)
def test_an_idle_worker_is_called_once_when_a_unit_is_committed(
    pool: Queue, ear: psycopg.Connection, queue_database: str, way: str
) -> None:
    worker = pool.worker()
    with psycopg.connect(queue_database) as conn:
        conn.execute(WAYS[way].format(job=pool.job_id).encode())
        assert heard(ear) == []
        conn.commit()
        assert heard(ear) == [str(worker)]
        conn.execute(WAYS[way].format(job=pool.job_id).replace("'r'", "'q'").encode())
        conn.rollback()
        assert heard(ear) == []


def test_the_operator_is_called_where_a_job_has_no_workers(pool: Queue, ear: psycopg.Connection) -> None:
    pool.put("a")
    assert heard(ear) == [str(pool.job_id)]


def test_a_unit_whose_savepoint_was_rolled_back_calls_nobody(
    pool: Queue, ear: psycopg.Connection, queue_database: str
) -> None:
    pool.worker()
    with psycopg.connect(queue_database) as conn:
        with conn.transaction(force_rollback=True):
            conn.execute(ENQUEUE.format(""))
        conn.commit()
    assert heard(ear) == []


def test_nobody_is_called_where_all_work_or_the_limit_is_reached(pool: Queue, ear: psycopg.Connection) -> None:
    workers = [pool.worker() for _ in range(3)]
    pool.put("a")
    pool.put("b")
    heard(ear)
    for worker in workers[:2]:
        assert pool.take(worker)
    heard(ear)
    forget(pool)
    pool.put("c")
    assert heard(ear) == []


def test_who_finds_nothing_calls_nobody(pool: Queue, ear: psycopg.Connection) -> None:
    workers = [pool.worker() for _ in range(3)]
    for worker in workers:
        assert pool.take(worker) == []
        pool.runner.run(pool.pool.poll(worker))
    assert heard(ear) == []


def test_who_claims_calls_one_for_what_it_leaves(pool: Queue, ear: psycopg.Connection) -> None:
    first, second = pool.worker(), pool.worker()
    for resource in ("a", "b", "c", "d"):
        pool.put(resource)
    heard(ear)
    assert len(pool.take(first)) == 1
    assert heard(ear) == [str(second)]


def test_who_claims_all_that_there_is_calls_nobody(pool: Queue, ear: psycopg.Connection) -> None:
    first, _ = pool.worker(), pool.worker()
    pool.put("a")
    heard(ear)
    assert len(pool.take(first)) == 1
    assert heard(ear) == []


def test_what_is_set_aside_and_released_calls_somebody(pool: Queue, ear: psycopg.Connection) -> None:
    worker = pool.worker()
    unit = pool.put("a")
    pool.db.execute("delete from striped.wake")
    pool.db.execute("update striped.unit set state = 'held', reason = 'x' where id = %s", [unit])
    heard(ear)
    forget(pool)
    pool.db.execute("select striped.revive(%s, 'held', null, null, 10)", [pool.job_id])
    assert heard(ear) == [str(worker)]


def test_who_was_silent_for_a_while_is_not_called_before_others(pool: Queue, ear: psycopg.Connection) -> None:
    killed, idle = pool.worker(), pool.worker()
    pool.db.execute("update striped.worker set settled_at = now() - interval '1 s' where id = %s", [killed])
    pool.db.execute(ENQUEUE.format("").encode())
    assert heard(ear) == [str(killed)]  # it worked a moment ago
    pool.db.execute("update striped.worker set settled_at = now() - interval '5 s' where id = %s", [killed])
    pool.db.execute("select * from striped.poll(%s)", [idle])
    heard(ear)
    forget(pool)
    pool.db.execute(ENQUEUE.format("").encode())
    assert heard(ear) == [str(idle)]  # the other may have been killed; it has another 25 s before it is considered dead


def test_a_delegated_jobs_delegator_is_called(pool: Queue, ear: psycopg.Connection) -> None:
    pool.db.execute("update striped.job set delegated = true where id = %s", [pool.job_id])
    pool.worker()
    pool.put("a")
    assert heard(ear) == [""]


def test_who_goes_calls_others_for_what_it_gives_back(pool: Queue, ear: psycopg.Connection) -> None:
    first, second = pool.worker(), pool.worker()
    pool.put("a")
    assert pool.take(first)
    heard(ear)
    pool.db.execute("select striped.leave(%s)", [first])
    assert heard(ear) == [str(second)]


def test_who_puts_units_in_need_not_see_workers(pool: Queue, ear: psycopg.Connection, queue_database: str) -> None:
    worker = pool.worker()
    with new_role(pool.db, "enqueuer") as role, psycopg.connect(as_role(queue_database, role)) as conn:
        conn.execute(ENQUEUE.format(""))
        conn.commit()
        assert heard(ear) == [str(worker)]


def test_an_idle_worker_sleeps_until_what_happens_next(pool: Queue) -> None:
    worker = pool.worker()
    pool.db.execute(ENQUEUE.format(", due_at => now() + interval '2.5 s'"))
    asked = pool.runner.run(pool.pool.poll(worker))
    assert not asked.claimable
    assert 0 < asked.sleep_seconds <= 2.5  # else it would be 3


def test_an_idle_worker_asks_now_and_then_where_all_waits_for_a_person(pool: Queue) -> None:
    """Nothing happens by itself, ever: before 17, Postgres cannot subtract from that."""
    pool.put("a")
    pool.db.execute("select striped.pause_resource(%s, 'a', 'ann', '')", [pool.job_id])
    assert pool.runner.run(pool.pool.poll(pool.worker("w"))).sleep_seconds == 3


def test_idle_workers_ask_the_less_often_the_more_they_and_jobs_are(pool: Queue) -> None:
    workers = sorted(pool.worker() for _ in range(4))

    def seconds() -> list[float]:
        return [pool.runner.run(pool.pool.poll(worker)).sleep_seconds for worker in workers]

    assert seconds() == [3, 3, 12, 12]  # two of them are there for what is due
    pool.db.execute(
        "insert into striped.job (namespace, job_type) select 'other', 'job-' || n from generate_series(1, 1000) n"
    )
    assert seconds() == [60, 60, 60, 60]


@pytest.mark.parametrize(
    "values", [[], [""], ["a"], ["NULL", "null", "{}", "a,b", 'q"q', "b\\s", "\n\t", "ü", " ", "'"]]
)
def test_arrays_arrive_as_they_were_written(pool: Queue, values: list[str]) -> None:
    assert pool.db.execute("select %s::text[]", [array_of_texts(values)]).fetchone() == (values,)
    numbers = [len(value) - 1 for value in values]
    assert pool.db.execute("select %s::bigint[]", [array_of_numbers(numbers)]).fetchone() == (numbers,)


@pytest.mark.parametrize(
    ("call", "durable"),
    [
        ("select striped.upkeep({job})", "off"),
        ("select * from striped.poll({worker})", "off"),
        ("select * from striped.claim({worker}, 0, 1, 1, 1)", "on"),
        ("select striped.enqueue('sync', 'a', '1')", "on"),
    ],
)
def test_what_is_done_again_after_a_crash_waits_for_no_disk(
    pool: Queue, queue_database: str, call: str, durable: str
) -> None:
    worker = pool.worker()
    with psycopg.connect(queue_database) as conn:
        conn.execute(call.format(job=pool.job_id, worker=worker).encode())
        assert conn.execute("show synchronous_commit").fetchone() == (durable,)
