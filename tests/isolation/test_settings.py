"""A job's settings change while its pool is at work: whatever else is under way at that moment."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.isolation.harness import Spec, Stage, Step, transaction
from tests.isolation.report import check
from tests.isolation.scenes import busy
from tests.isolation.specs import Specs, alone, do
from tests.isolation.world import DELEGATED, FIFO, MUTEX, THROTTLED, World

SPECS = Specs()
CHANGES = {
    "mutex to throttled": (MUTEX, THROTTLED),
    "throttled to mutex": (THROTTLED, MUTEX),
    "mutex to delegated": (MUTEX, DELEGATED),
    "delegated to mutex": (DELEGATED, MUTEX),
    "delegated to throttled": (DELEGATED, THROTTLED),
    "another label": (THROTTLED, replace(THROTTLED, area_label="country")),
    "skip to block": (MUTEX, FIFO),
    "block to skip": (FIFO, MUTEX),
    "fewer": (MUTEX, replace(MUTEX, schedule_limit=1)),
    "more": (FIFO, replace(FIFO, schedule_limit=3)),
}
OTHERS: dict[str, Step[World]] = {
    "upkeep": do(World.upkeep),
    "claim": do(World.claim, "w1"),
    "claim of a third": do(World.claim, "w3"),
    "settle": do(World.settle, "w1", "a"),
    "settle as failed": do(World.settle, "w1", "a", "wait", "held"),
    "late settle": do(World.settle, "w2", "b"),
    "complete": do(World.complete, "w1", "a"),
    "poll": do(World.poll, "w3"),
    "enqueue": do(World.enqueue, "c"),
    "enqueue of new": do(World.enqueue, "n"),
    "enqueue of later": do(World.enqueue_behind_later, "n"),
    "enqueue of many": do(World.enqueue_rows, "a", "c", "n"),
    "revive": do(World.revive, "held"),
    "purge": do(World.purge, "held"),
    "clear": do(World.clear),
    "fire": do(World.fire),
    "leave": do(World.leave, "w1"),
    "clean": do(World.clean),
}
for change, (before, after) in CHANGES.items():
    others = OTHERS | ({"delegate": do(World.delegate, "d1")} if before.delegated else {})
    for name, step in others.items():
        SPECS.add(
            f"{change}, {name}",
            before,
            busy,
            user=alone(World.apply, after),
            other=transaction(step),
        )


@pytest.mark.parametrize("made", SPECS, ids=lambda made: made.name)
def test_every_order(made: Spec[World], stage: Stage, request: pytest.FixtureRequest) -> None:
    check(stage, made, request.config)
