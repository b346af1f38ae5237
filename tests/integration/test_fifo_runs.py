"""Whole runs of FIFO with real worker processes: each unit once, alone in its group, and none out of order."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from tests.support.runs import INVERSIONS, OVERLAPS, Job, await_

pytestmark = pytest.mark.migrated

UNITS, RESOURCES = 10_000, 1_000


@pytest.fixture
def job(tmp_path: Path, fresh_database: str, fresh_valkey: str) -> Job:
    made = Job(tmp_path / "job", fresh_database, fresh_valkey)
    made.write(strategy="FIFO")
    return made


@pytest.mark.acceptance("A26")
@pytest.mark.acceptance("A30")
@pytest.mark.acceptance("A31")
def test_a26_the_seed_workload(job: Job) -> None:
    job.write(scheduleLimit=19)
    job.create(UNITS, RESOURCES)
    with job.running("--until-empty", "--workers", "19") as run:
        summary = run.await_end()
    assert job.sql("select count(*), count(distinct unit) from effect") == [(UNITS, UNITS)]
    assert job.sql(OVERLAPS) == [(0,)]
    assert job.sql(INVERSIONS) == [(0,)]
    assert (summary["done"], summary["stale"], summary["pending"]) == (UNITS, 0, 0)


@dataclass(frozen=True)
class Put:
    """A committed unit: the enqueuer's clock before it began, and after it had committed."""

    unit: int
    resource: str
    began: float
    committed: float


def enqueue(url: str, puts: list[Put], number: int) -> None:
    """Put in 250 units of 10 groups, one or a few in a transaction; of these some commit late, and some not at all."""
    rng = random.Random(number)
    with psycopg.connect(url, autocommit=True) as conn:
        for _ in range(125):
            began = time.monotonic()
            units = []
            with conn.transaction(force_rollback=rng.random() < 0.1) as transaction:
                for _ in range(rng.choice([1, 2, 3])):
                    resource = f"r{rng.randrange(10)}"
                    row = conn.execute("select striped.enqueue('seed', %s)", [resource]).fetchone()
                    assert row is not None
                    units.append((int(row[0]), resource))
                conn.execute("select pg_sleep(%s)", [rng.choice([0, 0, 0, 0.01, 0.05])])
            committed = time.monotonic()
            if not transaction.force_rollback:
                puts += [Put(unit, resource, began, committed) for unit, resource in units]


@pytest.mark.acceptance("A26")
def test_a26_no_inversion_with_8_workers_while_many_enqueue_and_units_fail(job: Job) -> None:
    """Order is from each commit to whatever begins after it; among transactions at the same time there is none."""
    job.write(handler={"python": "job_handlers:fails_at_first", "transaction": True})
    job.do("migrate")
    puts: list[Put] = []
    threads = [threading.Thread(target=enqueue, args=(job.url, puts, number)) for number in range(4)]
    with job.running("--workers", "8") as run:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        await_("all are done", lambda: job.done() == len(puts))
        assert run.process.poll() is None
    assert job.sql(OVERLAPS) == [(0,)]
    began = dict(job.sql("select unit, began from effect"))
    assert len(began) == len(puts) == job.sql("select count(*) from effect")[0][0]
    assert job.status()["total_retried"] == sum(put.unit % 7 == 0 for put in puts)
    groups = defaultdict(list)
    for put in puts:
        groups[put.resource].append(put)
    pairs = [(a, b) for group in groups.values() for a in group for b in group if a.committed < b.began]
    assert len(pairs) > len(puts)
    assert not [(a, b) for a, b in pairs if began[a.unit] > began[b.unit]]


def put_in(job: Job, *payloads: object) -> None:
    """Put in units of one group, with these payloads; in a fresh database their ids count from 1."""
    lines = "\n".join(json.dumps({"resource": "a", "payload": payload}) for payload in payloads)
    job.do("enqueue", "--from", "-", stdin=lines)


def test_a_handler_may_take_longer_than_its_lease(job: Job, tmp_path: Path) -> None:
    go_on = tmp_path / "go on"
    put_in(job, {"until": str(go_on)}, None)
    first = "select w.expires_at from striped.stripe s join striped.worker w on w.id = s.worker_id"
    with job.running("--until-empty", "--workers", "2") as run:
        (expires_at,) = await_("it is leased", lambda: job.sql(first))[0]
        await_("that lease would be over", lambda: job.sql("select 1 where clock_timestamp() > %s", [expires_at]))
        go_on.touch()
        summary = run.await_end()
    assert job.sql("select unit, began < %s, ended > %s from effect order by began", [expires_at] * 2) == [
        (1, True, True),
        (2, False, True),
    ]
    assert (summary["done"], summary["stale"]) == (2, 0)


def test_a_unit_is_dead_after_its_last_try_and_only_then_its_group_goes_on(job: Job) -> None:
    job.write(
        handler={"python": "job_handlers:act"},
        retry={"maxAttempts": 3, "backoffSeconds": 0},
        retention={"completedSeconds": 3600},
    )
    put_in(job, "raise", None, None)
    with job.running("--until-empty") as run:
        run.await_end()
    finished = job.sql("select id, attempts, state::text from striped.unit order by finished_at, id")
    assert [(row[0], row[2]) for row in finished] == [(1, "dead"), (2, "done"), (3, "done")]
    assert finished[0][1] == 3
