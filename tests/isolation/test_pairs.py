"""Any two routines: one is stopped before each of its statements in turn, and the other runs as a whole meanwhile.

No spec foresees these moments. The last one is after the first routine has returned, and before its commit.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from tests.isolation.calls import LOST, OUTLIVED
from tests.isolation.harness import Spec, Stage, Step, preempt_all, transaction
from tests.isolation.report import check
from tests.isolation.scenes import busy
from tests.isolation.specs import Specs, do
from tests.isolation.world import FIFO, THROTTLED, World

SPECS = Specs()
ROUTINES: dict[str, Step[World]] = {
    "upkeep": do(World.upkeep),
    "clean": do(World.clean),
    "tend": do(World.tend),
    "register": do(World.register, "w4"),
    "claim": do(World.claim, "w1"),
    "claim of the dead": do(World.claim, "w2"),
    "claim of a third": do(World.claim, "w3"),
    "settle": do(World.settle, "w1", "a"),
    "settle as failed": do(World.settle, "w1", "a", "wait", "held"),
    "settle of the dead": do(World.settle, "w2", "b"),
    "complete": do(World.complete, "w1", "a"),
    "renew": do(World.renew, "w2"),
    "resume": do(World.resume, "w1"),
    "poll": do(World.poll, "w3"),
    "leave": do(World.leave, "w1"),
    "enqueue": do(World.enqueue, "c"),
    "enqueue of many": do(World.enqueue_staged, "a", "c", "n"),
    "fire": do(World.fire),
    "revive": do(World.revive, "held"),
    "purge": do(World.purge, "held"),
    "clear": do(World.clear),
}
FIFOS = ROUTINES | {"apply": do(World.apply, replace(FIFO, on_failure="Skip"))}
THROTTLES = ROUTINES | {
    "delegate": do(World.delegate, "d1"),
    "apply": do(World.apply, replace(THROTTLED, area_label="country")),
}
for job, routines in ((FIFO, FIFOS), (THROTTLED, THROTTLES)):
    for (one, first), (other, second) in itertools.product(routines.items(), repeat=2):
        SPECS.add(
            f"{job.job_type}, {one}, {other}",
            job,
            busy,
            one=transaction(first),
            other=[second],
            errors=frozenset({LOST, OUTLIVED}),
        )


@pytest.mark.parametrize("made", SPECS, ids=lambda made: made.name)
def test_preempted_at_each_statement(made: Spec[World], stage: Stage, request: pytest.FixtureRequest) -> None:
    check(stage, made, request.config.getoption("--order"), preempt_all)
