"""Any two routines: one is stopped before each of its statements in turn, and the other runs as a whole meanwhile.

No spec foresees these moments. The last one is after the first routine has returned, and before its commit.
"""

from __future__ import annotations

import itertools

import pytest
from tests.isolation.calls import LOST, OUTLIVED
from tests.isolation.harness import Spec, Stage, transaction
from tests.isolation.plays import preempt_all
from tests.isolation.report import check
from tests.isolation.routines import FIFOS, THROTTLES
from tests.isolation.scenes import busy, refitting
from tests.isolation.specs import Specs
from tests.isolation.world import FIFO, THROTTLED, World

SPECS = Specs()
NAMES = list(THROTTLES)
for one, other in itertools.product(NAMES, repeat=2):
    # Of two routines each is stopped once, the one in a job with strict order, the other in a throttled one.
    in_order = NAMES.index(one) <= NAMES.index(other) and {one, other} <= set(FIFOS)
    job, routines = (FIFO, FIFOS) if in_order else (THROTTLED, THROTTLES)
    SPECS.add(
        f"{one}, {other}, {job.job_type}",
        job,
        busy,
        one=transaction(routines[one]),
        other=[routines[other]],
        errors=frozenset({LOST, OUTLIVED}),
    )


# A change of strategy while the one before is still being carried out.
for one, other in itertools.product(NAMES, ["apply"]):
    for first, second in dict.fromkeys([(one, other), (other, one)]):
        SPECS.add(
            f"{first}, {second}, refitting",
            THROTTLED,
            refitting,
            one=transaction(THROTTLES[first]),
            other=[THROTTLES[second]],
        )


@pytest.mark.parametrize("made", SPECS, ids=lambda made: made.name)
def test_preempted_at_each_statement(made: Spec[World], stage: Stage, request: pytest.FixtureRequest) -> None:
    check(stage, made, request.config, preempt_all)
