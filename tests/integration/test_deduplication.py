"""Deduplication by id and by content, whichever way units come in."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from tests.support.queues import FIFO, Queue, queue
from tests.support.runs import Job

import stripedjob
from stripedjob import NewUnit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.migrated


@pytest.fixture
def by_content(queue_database: str) -> Iterator[Queue]:
    with queue(queue_database, replace(FIFO, deduplicate_content=True)) as made:
        yield made


@pytest.mark.acceptance("A28")
def test_a28_the_same_id_within_5_minutes_is_delivered_once(fifo: Queue) -> None:
    first = fifo.put("a", dedup_id="once")
    assert fifo.put("a", dedup_id="once") == first
    assert fifo.put("b", payload="1", dedup_id="once") == first  # of the job, whatever group and payload
    worker = fifo.worker()
    assert fifo.work_off(worker) == [first]
    assert fifo.put("a", dedup_id="once") == first  # also when it has been worked
    assert fifo.work_off(worker) == []


@pytest.mark.acceptance("A28")
def test_a28_an_id_is_good_for_5_minutes_and_no_longer(fifo: Queue) -> None:
    first = fifo.put("a", dedup_id="once")
    assert fifo.one("select striped.dedup_window()::text") == "00:05:00"
    assert fifo.one(
        "select d.expires_at - u.enqueued_at between interval '5 min' and interval '5 min 5 s'"
        " from striped.dedup d join striped.unit u on u.id = d.unit_id"
    )
    fifo.db.execute("update striped.dedup set expires_at = clock_timestamp()")  # the 5 minutes are over this moment
    second = fifo.put("a", dedup_id="once")
    assert second != first
    assert fifo.put("a", dedup_id="once") == second
    assert fifo.work_off(fifo.worker()) == [first, second]


@pytest.mark.acceptance("A28")
@pytest.mark.parametrize("ends", ["commit", "rollback"])
def test_a28_of_two_enqueuers_at_once_one_is_delivered(fifo: Queue, ends: str) -> None:
    got: list[int] = []
    with psycopg.connect(fifo.url) as one, psycopg.connect(fifo.url, autocommit=True) as other:
        first = fifo.put("a", conn=one, dedup_id="once")
        second = threading.Thread(target=lambda: got.append(fifo.put("a", conn=other, dedup_id="once")))
        second.start()
        await_blocked(fifo, other.info.backend_pid)
        getattr(one, ends)()
        second.join()
    assert (got == [first]) is (ends == "commit")
    assert fifo.work_off(fifo.worker()) == got


def await_blocked(queue: Queue, pid: int) -> None:
    for _ in range(1000):
        if queue.one("select cardinality(pg_blocking_pids(%s))", [pid]):
            return
        queue.db.execute("select pg_sleep(0.01)")
    raise AssertionError(f"backend {pid} waits for nobody")


def test_many_with_an_id_that_is_known_leave_it_out(fifo: Queue) -> None:
    fifo.put("a", dedup_id="1")
    units = [NewUnit(resource="a", dedup_id=name) for name in ("1", "2", "2")]
    assert stripedjob.enqueue_many(fifo.db, "sync", units) == 1


WAYS: dict[str, Callable[[Queue, str, Any], object]] = {
    "sql": lambda q, group, payload: q.put(group, payload=payload),
    "enqueue": lambda q, group, payload: stripedjob.enqueue(q.db, "sync", NewUnit(resource=group, payload=payload)),
    "enqueue_many": lambda q, group, payload: stripedjob.enqueue_many(
        q.db, "sync", [NewUnit(resource=group, payload=payload), NewUnit(resource=group, payload=payload)]
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_same_content_within_5_minutes_is_delivered_once(by_content: Queue, way: str) -> None:
    by_content.put("a", payload='{"price":1,"of":[]}')
    put = WAYS[way]
    if way == "sql":
        put(by_content, "a", '{"of": [], "price": 1}')
        put(by_content, "a", '{"of": [], "price": 2}')
    else:
        put(by_content, "a", {"of": [], "price": 1})
        put(by_content, "a", {"of": [], "price": 2})
    rows = by_content.db.execute("select payload::json ->> 'price' from striped.unit order by id").fetchall()
    assert rows == [("1",), ("2",)]


def test_the_same_content_for_another_group_is_other_work(by_content: Queue) -> None:
    assert by_content.put("a") != by_content.put("b")


def test_an_id_that_is_given_stands_in_place_of_the_content(by_content: Queue) -> None:
    ids = [by_content.put("a", dedup_id=name) for name in ("1", "2", "1")]
    assert len(set(ids)) == 2
    assert by_content.put("a", payload='"1"') not in ids


def test_content_that_jsonb_refuses_is_deduplicated_as_text(by_content: Queue) -> None:
    odd = '"nul: \\u0000"'
    assert by_content.put("a", payload=odd) == by_content.put("a", payload=odd)


def test_what_a_schedule_brings_each_period_is_no_duplicate(by_content: Queue) -> None:
    fire = "select striped.fire(%s, 's', to_timestamp(%s), %s)"
    query = "select 'a', '1' from generate_series(1, 2)"
    by_content.one(fire, [by_content.job_id, 0, query])
    by_content.db.execute("update striped.turn set at = to_timestamp(0) where kind = 'schedule'")
    assert by_content.one(fire, [by_content.job_id, 60, query]) == 2
    assert by_content.one(fire, [by_content.job_id, 120, query]) == 2
    assert by_content.one(fire, [by_content.job_id, 180, None]) == 1
    assert by_content.one(fire, [by_content.job_id, 240, None]) == 1
    assert by_content.one("select count(*) from striped.unit") == 6


def test_a_file_is_deduplicated_by_content_as_well(tmp_path: Path, fresh_database: str) -> None:
    job = Job(tmp_path / "job", fresh_database, "unused")
    job.write(strategy="FIFO", contentBasedDeduplication=True, lock={"backend": "Postgres"})
    lines = "\n".join(json.dumps({"resource": "a", "payload": {"of": [], "price": price}}) for price in (1, 2, 1))
    assert "2 units enqueued for seed, 1 known or empty left out" in job.do("enqueue", "--from", "-", stdin=lines)
    csv = 'resource,payload\na,"{""price"":1,  ""of"": []}"\nb,1\n'
    assert "1 unit enqueued" in job.do("enqueue", "--from", "-", "--format", "csv", stdin=csv)
