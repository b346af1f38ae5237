"""Leases of workers that die, come back, leave, or are refused: every order of what two or three sessions do."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
from tests.isolation.calls import LOST, OUTLIVED
from tests.isolation.harness import Spec, Stage, transaction
from tests.isolation.report import check
from tests.isolation.scenes import holder, holding, put
from tests.isolation.specs import Specs, alone, do
from tests.isolation.world import DELEGATED, FIFO, MUTEX, World

SPECS = Specs()
ONE = replace(MUTEX, schedule_limit=1)


def dying(world: World, leases: tuple[str, ...], others: int = 0) -> None:
    """`w1`, with these leases, is about to be considered dead; `r` is ready."""
    holder(world, "w1", *leases)
    put(world, "r")
    for n in range(others):
        world.register(world.conn, f"w{n + 2}")
    world.expire(world.conn, "w1")


def three(world: World) -> None:
    """Make three workers, and something for each."""
    put(world, "a", "b", "c")
    for name in ("w1", "w2", "w3"):
        world.register(world.conn, name)


for leases in ((), ("a",), ("a", "b")):
    name = f"{len(leases)} leases"
    SPECS.add(
        f"the last worker claims while it is reaped, {name}",
        ONE,
        partial(dying, leases=leases),
        reaper=alone(World.upkeep),
        w1=alone(World.claim, "w1"),
    )
    SPECS.add(
        f"a worker claims while it is reaped, {name}",
        ONE,
        partial(dying, leases=leases, others=1),
        reaper=alone(World.upkeep),
        w1=alone(World.claim, "w1"),
        w2=alone(World.claim, "w2"),
    )
    for job in (MUTEX, FIFO):
        SPECS.add(
            f"a claim whose answer is lost, and its worker's new session, {name}, {job.job_type}",
            job,
            holding(*leases, ready=("r",)),
            old=alone(World.claim_unheard, "w1"),
            new=[do(World.resume, "w1"), do(World.claim, "w1")],
            errors=frozenset({LOST, OUTLIVED}),
        )
SPECS.add(
    "a claim that waits for the job, and its worker's new session",
    MUTEX,
    holding(ready=("r",)),
    user=alone(World.apply, replace(MUTEX, importance=3)),
    old=[do(World.claim_unheard, "w1")],
    new=alone(World.resume, "w1"),
    errors=frozenset({LOST, OUTLIVED}),
)
SPECS.add(
    "a settlement whose answer is lost, and is sent again",
    MUTEX,
    holding("a", "b", ready=("r",)),
    old=alone(World.settle_unheard, "w1"),
    new=[do(World.resume, "w1"), do(World.settle, "w1"), do(World.claim, "w1")],
)
for job in (MUTEX, FIFO):
    SPECS.add(
        f"a lease ends while units come and are folded, {job.job_type}",
        job,
        holding("a"),
        user=alone(World.enqueue, "a"),
        keeper=alone(World.upkeep),
        w1=alone(World.settle, "w1"),
    )
    SPECS.add(
        f"a dead worker's handler completes while its lease is taken back, {job.job_type}",
        job,
        partial(dying, leases=("a",), others=1),
        handler=alone(World.complete, "w1", "a"),
        reaper=alone(World.upkeep),
        w2=alone(World.claim, "w2"),
    )
    SPECS.add(
        f"a dead worker settles while its lease is taken back, {job.job_type}",
        job,
        partial(dying, leases=("a", "b"), others=1),
        w1=alone(World.settle, "w1"),
        reaper=alone(World.upkeep),
        w2=alone(World.claim, "w2"),
    )
SPECS.add(
    "a handler completes while its worker settles",
    MUTEX,
    holding("a", "b"),
    handler=alone(World.complete, "w1", "a"),
    w1=alone(World.settle, "w1"),
    user=alone(World.enqueue, "a"),
)
for step in ("renew", "leave", "poll", "resume"):
    SPECS.add(
        f"a worker is reaped while it calls {step}",
        ONE,
        partial(dying, leases=("a",), others=1),
        w1=alone(getattr(World, step), "w1"),
        reaper=alone(World.upkeep),
        w2=alone(World.claim, "w2"),
    )
SPECS.add(
    "a worker leaves while an old claim of it is under way",
    MUTEX,
    holding("a", ready=("r",)),
    old=alone(World.claim_unheard, "w1"),
    w1=alone(World.leave, "w1"),
)
SPECS.add(
    "three workers claim the last slot",
    ONE,
    three,
    w1=alone(World.claim, "w1"),
    w2=alone(World.claim, "w2"),
    w3=alone(World.claim, "w3"),
)


def delegating(world: World) -> None:
    """`w1` holds `a`, `w2` wants more; `r`, `s` and `t` are ready, and the delegator `d1` has not assigned them."""
    holder(world, "w1", "a")
    holder(world, "w2")
    world.delegate(world.conn, "d1") if "d1" in world.terms else world.lead(world.conn, "d1")
    for resource in ("r", "s", "t"):
        world.enqueue(world.conn, resource)
    world.upkeep(world.conn)
    for name in ("w1", "w2"):
        world.claim(world.conn, name)


for step in ("leave", "claim", "poll", "settle", "renew", "resume"):
    SPECS.add(
        f"a delegator assigns while a worker calls {step}",
        DELEGATED,
        delegating,
        d1=transaction(do(World.delegate, "d1"), do(World.delegate, "d1")),
        w1=alone(getattr(World, step), "w1"),
        w2=[do(World.claim, "w2")],
    )
SPECS.add(
    "a delegator's term ends while it assigns",
    DELEGATED,
    delegating,
    d1=alone(World.delegate, "d1"),
    d2=[do(World.end_term, "d1"), do(World.lead, "d2"), do(World.delegate, "d2")],
)


@pytest.mark.parametrize("made", SPECS, ids=lambda made: made.name)
def test_every_order(made: Spec[World], stage: Stage, request: pytest.FixtureRequest) -> None:
    check(stage, made, request.config)
