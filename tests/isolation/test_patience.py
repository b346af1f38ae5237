"""What takes as long as it likes, a schedule's query, retention, an outsider's lock, keeps nobody else waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.isolation.report import check
from tests.isolation.scenes import busy
from tests.isolation.specs import Specs, alone, do, execute
from tests.isolation.world import FIFO, THROTTLED, World
from tests.support.worker_env import Site

from stripedjob.pool.connection import connect

if TYPE_CHECKING:
    from tests.isolation.harness import Spec, Stage, Step

SPECS = Specs()
WORK: dict[str, Step[World]] = {
    "upkeep": do(World.upkeep),
    "tend": do(World.tend),
    "register": do(World.register, "w4"),
    "claim": do(World.claim, "w1"),
    "claim of a third": do(World.claim, "w3"),
    "settle": do(World.settle, "w1", "a"),
    "late settle": do(World.settle, "w2", "b"),
    "complete": do(World.complete, "w1", "a"),
    "renew": do(World.renew, "w1"),
    "resume": do(World.resume, "w1"),
    "poll": do(World.poll, "w3"),
    "leave": do(World.leave, "w1"),
    "enqueue": do(World.enqueue, "c"),
    "another fire": do(World.fire),
    "revive": do(World.revive, "held"),
}


def begin_schedule(world: World) -> None:
    """Let the first call be over, which only begins a schedule."""
    world.fire(world.conn)


PERIOD = "select 'period', 'null'"
for job in (FIFO, THROTTLED):
    for name, step in (WORK | {"apply": do(World.apply, job), "clean": do(World.clean)}).items():
        SPECS.add(
            f"{name} while a schedules query runs, {job.job_type}",
            job,
            busy,
            clock=alone(World.fire, PERIOD),
            other=[step],
            prompt="other",
        )
    for name, step in WORK.items():
        if name in {"upkeep", "poll", "revive"}:  # they wait for the counters, which retention locks last
            continue
        SPECS.add(
            f"{name} while old units are removed, {job.job_type}",
            job,
            busy,
            cleaner=alone(World.clean),
            other=[step],
            prompt="other",
        )
    SPECS.add(
        f"work while an outsider holds an advisory lock, {job.job_type}",
        job,
        busy,
        outsider=[execute("select pg_advisory_lock(hashtext('striped upkeep'), id) from striped.job")],
        keeper=[do(World.upkeep), do(World.clean)],
        w1=[do(World.claim, "w1")],
        prompt="keeper w1",
    )
SPECS.add(
    "two clocks serve one period",
    FIFO,
    begin_schedule,
    first=alone(World.fire_once, PERIOD),
    second=alone(World.fire_once, PERIOD),
)


@pytest.mark.parametrize("made", SPECS, ids=lambda made: made.name)
def test_nobody_waits(made: Spec[World], stage: Stage, request: pytest.FixtureRequest) -> None:
    check(stage, made, request.config)


STATISTICS = """
update pg_class set reltuples = %s, relpages = 1, relallvisible = %s where oid = 'striped.worker'::regclass"""


@pytest.mark.parametrize(("rows", "all_visible"), [(0, 1), (0, 0), (3, 1), (3, 0)])
@pytest.mark.migrated
def test_retention_locks_no_lease_of_the_living(fresh_database: str, rows: int, all_visible: int) -> None:
    """It looks for leases whose worker has no row, and is to find out before it locks them.

    Also where the planner takes it that there are no workers, since VACUUM came when there were none.
    """
    site = Site(fresh_database)
    site.sql("select striped.enqueue('sync', 'r' || n) from generate_series(1, 9) n")
    site.sql("update striped.turn set at = '-infinity' where kind = 'clean'")
    for name in ("w1", "w2"):
        ((worker,),) = site.sql("select striped.register(%s, %s)", [site.job_id, name])
        site.sql("select striped.upkeep(%s)", [site.job_id])
        site.sql("select striped.claim(%s, 0, 4, 9, 1000)", [worker])
    site.sql(STATISTICS, [rows, all_visible])
    with connect(fresh_database) as conn, conn.transaction():
        conn.execute("select striped.clean(%s)", [site.job_id])
        leased = site.sql("select resource from striped.stripe where state = 'leased'")
        free = site.sql("select resource from striped.stripe where state = 'leased' for update skip locked")
    assert len(free) == len(leased) > 1
