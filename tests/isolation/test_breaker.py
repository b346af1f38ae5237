"""The circuit breaker opens, probes and closes while sessions settle, claim, die, and people act: every order."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
from tests.isolation.calls import value
from tests.isolation.harness import Spec, Stage, transaction
from tests.isolation.report import check
from tests.isolation.scenes import holder, keep_up, put
from tests.isolation.specs import Specs, alone, do
from tests.isolation.world import DELEGATED, FIFO, MUTEX, World

SPECS = Specs()
BREAKER = {"breaker_failures": 2, "backoff_seconds": 3600.0, "backoff_seconds_max": 7200.0}
BREAKS, BLOCKS, DELEGATES = (replace(job, **BREAKER) for job in (MUTEX, FIFO, DELEGATED))  # type: ignore[arg-type]
FAILS = {"then": "idle", "to": "delayed"}
FAILS_IN_ORDER = {"then": "ready", "to": "ready"}
OUT = """
select count(*) from striped.stripe s join striped.job j on j.id = s.job_id
where j.id = %s and j.open_until is not null and s.state = 'leased' and s.fence > %s"""


def one_probes(world: World, since: int) -> list[str]:
    """What was leased after this fence, with which it was half open, is one resource as long as it has not closed."""
    out = value(world.conn, OUT, world.id, since)
    return [f"{out} leases probe at once"] if out > 1 else []


def opens_once(world: World) -> list[str]:
    """Two that fail at once open it once, and of tries while it is open none is counted."""
    openings = value(world.conn, "select openings from striped.job where id = %s", world.id)
    counted = value(world.conn, "select coalesce(sum(attempts), 0) from striped.unit where job_id = %s", world.id)
    if openings > 1:
        return [f"it has opened {openings} times in a row"]
    return [f"{counted} attempts are used up"] if openings and counted > 1 else []


def one_short(world: World) -> None:
    """A try has failed, the next one opens it: `w1` holds `a`, `w2` holds `b`, and `r` is ready."""
    holder(world, "w1", "c", "a")
    holder(world, "w2", "b")
    put(world, "r")
    world.settle(world.conn, "w1", "c", **FAILS)
    world.batch.clear()
    world.conn.execute(
        "update striped.unit set due_at = '2999-01-01' where job_id = %s and state = 'delayed'", [world.id]
    )
    world.checks = (opens_once,)


def half_open(world: World) -> None:
    """It is half open, with `r` and `s` ready; `w1` holds `a` since before, `w2` holds nothing, `w3` has no slot."""
    holder(world, "w1", "c", "d", "a")
    world.register(world.conn, "w2")
    world.register(world.conn, "w3")
    put(world, "r", "s")
    for resource in ("c", "d"):
        world.settle(world.conn, "w1", resource, **FAILS)
        world.batch.clear()
    world.conn.execute("update striped.job set open_until = clock_timestamp() where id = %s", [world.id])
    world.conn.execute(
        "update striped.unit set due_at = '2999-01-01' where job_id = %s and state = 'delayed'", [world.id]
    )
    keep_up(world)
    world.checks = (partial(one_probes, since=value(world.conn, "select nextval('striped.fence')")),)


def probing(world: World) -> None:
    """As half open, and `w2` is at work on the probe."""
    half_open(world)
    for _ in range(3):
        if not world.known["w2"]:
            world.claim(world.conn, "w2")
            keep_up(world)
    assert len(world.known["w2"]) == 1


def lost(world: World) -> None:
    """As that, and its worker is about to be considered dead."""
    probing(world)
    world.expire(world.conn, "w2")


for job, fails in ((BREAKS, FAILS), (BLOCKS, FAILS_IN_ORDER)):
    kind = job.job_type
    SPECS.add(
        f"two fail at once, {kind}",
        job,
        one_short,
        w1=alone(World.settle, "w1", "a", **fails),
        w2=alone(World.settle, "w2", "b", **fails),
        upkeep=[do(World.upkeep)],
    )
    SPECS.add(
        f"one fails and one is done, {kind}",
        job,
        one_short,
        w1=alone(World.settle, "w1", "a", **fails),
        w2=alone(World.settle, "w2", "b"),
    )
    SPECS.add(
        f"it opens while another claims, {kind}",
        job,
        one_short,
        w1=alone(World.settle, "w1", "a", **fails),
        w2=alone(World.claim, "w2"),
        w3=[do(World.settle, "w2", "b", **fails)],
    )
    SPECS.add(
        f"it opens while the unit is cancelled, {kind}",
        job,
        one_short,
        w1=alone(World.settle, "w1", "a", **fails),
        person=alone(World.cancel, "ready"),
        upkeep=[do(World.upkeep)],
    )
    SPECS.add(
        f"all claim half open, {kind}",
        job,
        half_open,
        w1=alone(World.claim, "w1"),
        w2=alone(World.claim, "w2"),
        w3=[do(World.claim, "w3")],
    )
    for end, how in (
        ("done", do(World.settle, "w2")),
        ("failed", do(World.settle, "w2", **fails)),
        ("given back", do(World.leave, "w2")),
    ):
        SPECS.add(
            f"the probe ends while others claim and settle, {end}, {kind}",
            job,
            probing,
            w2=transaction(how, do(World.claim, "w3")),
            w1=transaction(do(World.settle, "w1", "a", **fails), do(World.claim, "w1")),
        )
        for name, act in (
            ("a person resumes", do(World.resume_job)),
            ("another limit is applied", do(World.apply, replace(job, breaker_failures=5))),
            ("it is switched off", do(World.apply, replace(job, breaker_failures=0))),
        ):
            SPECS.add(
                f"{name} while the probe ends, {end}, {kind}",
                job,
                probing,
                w2=transaction(how),
                person=transaction(act),
                w1=[do(World.claim, "w1")],
            )
    for name, scene, w2, w3 in (
        ("is dead", lost, alone(World.settle, "w2", **fails), [do(World.claim, "w3")]),
        ("comes back", probing, transaction(do(World.resume, "w2"), do(World.claim, "w2")), []),
    ):
        SPECS.add(
            f"the worker of the probe {name}, {kind}",
            job,
            scene,
            w1=transaction(do(World.upkeep), do(World.claim, "w1")),
            w2=w2,
            w3=w3,
        )
for step in ("settle", "leave", "claim"):
    SPECS.add(
        f"a delegator assigns while the worker of the probe calls {step}",
        DELEGATES,
        half_open,
        d1=transaction(do(World.delegate, "d1"), do(World.delegate, "d1")),
        w2=transaction(do(World.claim, "w2"), do(getattr(World, step), "w2")),
        w1=[do(World.claim, "w1")],
    )


@pytest.mark.parametrize("made", SPECS, ids=lambda made: made.name)
def test_every_order(made: Spec[World], stage: Stage, request: pytest.FixtureRequest) -> None:
    check(stage, made, request.config)
