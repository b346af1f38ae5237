"""Two sessions of the pool that meet: the second one's call comes while the first one's transaction is open."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from tests.support.queues import FIFO, Queue, queue

if TYPE_CHECKING:
    from collections.abc import Iterator

MUTEX = replace(FIFO, on_failure="Skip", schedule_limit=2)
PATIENCE_SECONDS = 90
CLAIM = "select coalesce(array_agg(r), '{}') from striped.claim(%s, %s, 1, 1, 1000000) c, unnest(c.resources) r"
OWNED = "select array_agg(resource || ' ' || state order by resource) from striped.stripe where worker_id is not null"


@dataclass
class Meeting:
    """A queue, and two sessions besides."""

    queue: Queue
    first: psycopg.Connection
    second: psycopg.Connection
    threads: ThreadPoolExecutor

    def before_commit(self, query: str, values: list[Any]) -> Any:
        """Make the first session's call, and leave its transaction open."""
        self.first.execute("begin")
        return one(self.first, query, values)

    def meanwhile(self, query: str, values: list[Any]) -> Future[Any]:
        """Make the second session's call, which is to wait for the first one's transaction."""
        call = self.threads.submit(one, self.second, query, values)
        end = time.monotonic() + PATIENCE_SECONDS
        while not self.queue.one("select cardinality(pg_blocking_pids(%s)) > 0", [self.second.info.backend_pid]):
            assert not call.done(), f"it waited for nobody, and came to {call}"
            assert time.monotonic() < end
        return call

    def at_once(self, query: str, values: list[Any]) -> Any:
        """Make the second session's call, which is to wait for nobody."""
        self.second.execute("set lock_timeout = '1 s'")
        return one(self.second, query, values)

    def upkeep(self) -> None:
        self.queue.runner.run(self.queue.pool.upkeep(self.queue.job_id))


def one(conn: psycopg.Connection, query: str, values: list[Any]) -> Any:
    row = conn.execute(query.encode(), values).fetchone()
    return row and row[0]


@pytest.fixture
def meeting(queue_database: str) -> Iterator[Meeting]:
    with (
        queue(queue_database, MUTEX) as made,
        psycopg.connect(queue_database, autocommit=True) as first,
        psycopg.connect(queue_database, autocommit=True) as second,
        ThreadPoolExecutor() as threads,
    ):
        yield Meeting(made, first, second, threads)


UPKEEP = "select striped.upkeep(%s)"


def test_a_worker_that_is_being_considered_dead_claims_nothing(meeting: Meeting) -> None:
    worker = meeting.queue.worker()
    meeting.queue.put("a")
    meeting.upkeep()
    meeting.queue.expire(worker)
    meeting.before_commit(UPKEEP, [meeting.queue.job_id])
    claim = meeting.meanwhile(CLAIM, [worker, 0])
    meeting.first.execute("commit")
    with pytest.raises(psycopg.DatabaseError, match="no longer registered"):
        claim.result()
    assert meeting.queue.one(OWNED) is None


def test_a_claim_of_a_session_that_is_over_is_refused(meeting: Meeting) -> None:
    worker = meeting.queue.worker()
    meeting.queue.put("a")
    meeting.upkeep()
    meeting.queue.one("select striped.resume(%s, 1, '{}')::text", [worker])
    with pytest.raises(psycopg.DatabaseError, match="goes on in session"):
        one(meeting.first, CLAIM, [worker, 0])


def test_a_worker_that_comes_back_waits_for_its_old_claim_and_takes_it_back(meeting: Meeting) -> None:
    worker = meeting.queue.worker()
    meeting.queue.put("a")
    meeting.upkeep()
    assert meeting.before_commit(CLAIM, [worker, 0]) == ["a"]
    resume = meeting.meanwhile("select striped.resume(%s, 1, '{}')::text", [worker])
    meeting.first.execute("commit")
    assert resume.result() == "{}"
    assert meeting.queue.one(OWNED) is None


def test_of_two_that_want_the_last_slot_the_second_waits_and_is_refused(meeting: Meeting) -> None:
    workers = [meeting.queue.worker() for _ in range(2)]
    meeting.queue.apply(replace(MUTEX, schedule_limit=1))
    for resource in ("a", "b"):
        meeting.queue.put(resource)
    meeting.upkeep()
    assert meeting.before_commit(CLAIM, [workers[0], 0]) == ["a"]
    claim = meeting.meanwhile(CLAIM, [workers[1], 0])
    meeting.first.execute("commit")
    assert claim.result() == []


def test_upkeep_goes_past_a_worker_that_is_at_a_call_and_past_another_upkeep(meeting: Meeting) -> None:
    worker, claimer = meeting.queue.worker(), meeting.queue.worker()
    meeting.queue.put("a")
    (lease,) = meeting.queue.take(worker)
    meeting.queue.expire(worker)
    meeting.before_commit("select striped.renew(%s, '{}')", [worker])
    meeting.at_once(UPKEEP, [meeting.queue.job_id])
    meeting.first.execute("rollback")
    meeting.before_commit(UPKEEP, [meeting.queue.job_id])
    meeting.at_once(UPKEEP, [meeting.queue.job_id])
    meeting.first.execute("commit")
    assert meeting.at_once(CLAIM, [claimer, 0]) == [lease.resource]


def test_a_lease_that_is_being_settled_is_not_taken_back(meeting: Meeting) -> None:
    worker = meeting.queue.worker()
    unit = meeting.queue.put("a")
    (lease,) = meeting.queue.take(worker)
    meeting.queue.expire(worker)
    complete = "select striped.complete(%s::int, %s::bigint, 'a', %s::bigint, %s::bigint[])"
    assert meeting.before_commit(complete, [meeting.queue.job_id, worker, lease.fence, [unit]])
    meeting.at_once(UPKEEP, [meeting.queue.job_id])
    meeting.first.execute("commit")
    assert meeting.queue.one(OWNED) == ["a leased"]


def test_nothing_is_assigned_to_a_worker_that_leaves(meeting: Meeting) -> None:
    job = meeting.queue.job_id
    meeting.queue.apply(replace(MUTEX, delegated=True))
    worker = meeting.queue.worker()
    for resource in ("a", "b", "c"):
        meeting.queue.put(resource)
    meeting.upkeep()
    term = meeting.queue.one("select striped.lead(%s, 'd')", [job])
    assert meeting.queue.take(worker) == []
    meeting.before_commit("select (striped.delegate(%s, %s)).assigned", [job, term])
    leave = meeting.meanwhile("select striped.leave(%s)::text", [worker])
    meeting.first.execute("commit")
    leave.result()
    assert meeting.queue.one(OWNED) is None
