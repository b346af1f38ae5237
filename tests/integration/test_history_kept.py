"""For how long a history is kept: what is kept is there, what is not goes by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from tests.support.engines import new_database
from tests.support.queues import FIFO, Queue, queue

from stripedjob.pool.client.owner import OwnerPool
from stripedjob.pool.client.viewer import ViewerPool
from stripedjob.pool.install.teardown import teardown

if TYPE_CHECKING:
    from collections.abc import Iterator

KEPT = 800  # seconds: a hundred for each place but one
PLACES = 9
JOB = replace(FIFO, on_failure="Skip", history_seconds=KEPT)
TURN = """
update striped.history set at = at - make_interval(secs => {0});
update striped.history_ring set since = since - make_interval(secs => {0}),
    ended = array(select e - make_interval(secs => {0}) from unnest(ended) with ordinality o(e, n) order by n);
update striped.turn set at = '-infinity' where kind = 'clean'"""
ROWS = "select count(*) from striped.history"


@pytest.fixture
def pool(postgres_url: str) -> Iterator[Queue]:
    with new_database(postgres_url) as url, queue(url, JOB) as made:
        yield made


def let_pass(pool: Queue, seconds: float) -> None:
    """Turn the time, and clean."""
    pool.db.execute(TURN.format(seconds).encode())
    assert not pool.runner.run(pool.pool.clean(pool.job_id))


def shown(pool: Queue, resource: str, job: int | None = None) -> list[Any]:
    found = ViewerPool(pool.db, "striped").history(job or pool.job_id, resource, None, events=1000)
    return [one["unit"] for one in found["events"]]


def test_what_is_kept_is_there_and_what_is_not_goes(pool: Queue) -> None:
    put: list[int] = []
    for _ in range(60):
        put.append(pool.put("a"))
        let_pass(pool, 50)
        assert shown(pool, "a") == put[: -KEPT // 50 : -1]
        assert pool.one(ROWS) <= KEPT / 50 * PLACES / (PLACES - 1) + 3
    assert pool.one("select count(distinct slot) from striped.history") >= PLACES - 1


def test_a_pool_where_nothing_happens_turns_nothing(pool: Queue) -> None:
    pool.put("a")
    for _ in range(40):
        let_pass(pool, 100)
    before = pool.one("select r::text from striped.history_ring r where since < now() - interval '100 s'")
    let_pass(pool, 0)
    assert pool.one("select r::text from striped.history_ring r") == before
    assert pool.one(ROWS) == 0


def test_the_job_that_keeps_it_longest_says_how_long_and_each_shows_its_own(pool: Queue) -> None:
    apply = "select striped.apply_job('default', 'long', 0, 1, 0, 30, 5, 'Skip', 0, 0, p_history_seconds => %s)"
    long = pool.one(apply, [8 * KEPT])
    unit = pool.put("a")
    other = pool.one("select striped.enqueue('long', 'a')")
    for _ in range(7):
        let_pass(pool, KEPT)
    assert (shown(pool, "a"), shown(pool, "a", long), pool.one(ROWS)) == ([], [other], 2)
    assert unit != other
    for _ in range(4):
        let_pass(pool, KEPT)
    assert pool.one(ROWS) == 0


@pytest.mark.parametrize("kept", [0, 10, 80_000])
def test_another_time_takes_effect_and_loses_nothing_that_is_to_be_kept(pool: Queue, kept: int) -> None:
    put = []
    for _ in range(20):
        put.append(pool.put("a"))
        let_pass(pool, 50)
    there = len(shown(pool, "a"))
    pool.apply(replace(JOB, history_seconds=kept, generation=1))
    for _ in range(4):
        let_pass(pool, 12)
    assert len(shown(pool, "a")) == (0 if kept < 50 else pool.one(ROWS))
    assert pool.one(ROWS) >= there if kept > KEPT else pool.one(ROWS) == 0


def test_whoever_reads_or_writes_for_long_keeps_nobody_waiting(pool: Queue) -> None:
    pool.put("a")
    pool.db.execute("set statement_timeout to '5s'")
    with psycopg.connect(pool.url) as reader, psycopg.connect(pool.url) as writer:
        reader.execute("select from striped.history")
        late = pool.put("b", conn=writer)
        for _ in range(12):
            let_pass(pool, 200)
            pool.put("c")
        assert shown(pool, "b") == []  # not committed
        assert len(shown(pool, "c")) == 4
        rows = pool.one(ROWS)
        writer.commit()
        assert shown(pool, "b") == [late]
        reader.rollback()
        let_pass(pool, 100)
        let_pass(pool, KEPT)
        assert pool.one(ROWS) < rows


def test_an_insert_never_fails_for_want_of_a_place(pool: Queue) -> None:
    pool.db.execute("delete from striped.history_ring")
    unit = pool.put("a")
    let_pass(pool, 12)
    assert shown(pool, "a") == [unit]


def test_clear_takes_the_history_of_its_job_away_in_bounded_steps(pool: Queue) -> None:
    other = pool.one(
        "select striped.apply_job('default', 'other', 0, 1, 0, 30, 5, 'Skip', 0, 0, p_history_seconds => 9)"
    )
    pool.db.execute("select striped.enqueue('other', 'a')")
    for n in range(50):
        pool.put(f"r{n % 7}")
    for job in (pool.job_id, other):
        for _ in range(15):
            pool.db.execute("select striped.pause_job(%s, 'ann', ''), striped.resume_job(%s)", [job, job])
    steps = 0
    while pool.one("select striped.clear(%s, 10)", [pool.job_id]) is not None:
        steps += 1
    assert steps >= 8
    assert pool.one("select array_agg(distinct job_id) from striped.history") == [other]
    assert pool.one("select count(*) from striped.history") == 31


def test_doctor_and_teardown_know_the_ring(pool: Queue) -> None:
    for _ in range(20):
        pool.put("a")
        let_pass(pool, 100)
    with OwnerPool.open(pool.url) as owner:
        assert [one for one in owner.examine() if one.subject in ("drift", "schema", "vacuum")] == []
        pool.db.execute("drop index striped.history_unit")
        (found,) = [one for one in owner.examine() if one.subject == "drift"]
        assert "index striped.history_unit is gone" in found.what
    torn = teardown(pool.db)
    assert torn
    assert (torn.dropped, torn.left) == (True, ())
