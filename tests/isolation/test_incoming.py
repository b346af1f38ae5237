"""Units come in while workers are at work: transactions that commit late, or are undone as a whole or in part."""

from __future__ import annotations

import pytest
from tests.isolation.harness import Spec, Stage, transaction
from tests.isolation.report import check
from tests.isolation.scenes import holding
from tests.isolation.specs import Specs, alone, do, execute
from tests.isolation.world import FIFO, MUTEX, THROTTLED, World

SPECS = Specs()


AT_WORK = holding("a")
TRANSACTIONS = {
    "commits": transaction(do(World.enqueue, "a"), do(World.enqueue, "b")),
    "is undone": transaction(do(World.enqueue, "a"), do(World.enqueue, "b"), end="rollback"),
    "is undone in part": transaction(
        execute("savepoint before"), do(World.enqueue, "a"), execute("rollback to before"), do(World.enqueue, "a")
    ),
    "delays": transaction(do(World.enqueue_behind_later, "a")),
    "enqueues many": transaction(do(World.enqueue_rows, "a", "a", "b")),
    "gives an id": transaction(do(World.enqueue, "a", dedup_id="same")),
}
for job in (MUTEX, FIFO, THROTTLED):
    for name, steps in TRANSACTIONS.items():
        SPECS.add(
            f"a transaction {name} while a lease ends, {job.job_type}",
            job,
            AT_WORK,
            user=steps,
            w1=[do(World.settle, "w1"), do(World.upkeep), do(World.claim, "w1")],
        )
    SPECS.add(
        f"a second transaction overtakes the first, {job.job_type}",
        job,
        AT_WORK,
        first=alone(World.enqueue, "a"),
        second=alone(World.enqueue, "a"),
        w1=[do(World.settle, "w1"), do(World.upkeep), do(World.claim, "w1")],
    )
    SPECS.add(
        f"upkeep folds while a lease ends, {job.job_type}",
        job,
        holding("a", woken=("a", "b")),
        user=[do(World.enqueue, "a")],
        keeper=alone(World.upkeep),
        w1=[*alone(World.settle, "w1"), do(World.claim, "w1")],
    )
for end in ("commit", "rollback"):
    SPECS.add(
        f"two transactions give one id, the first ends with {end}",
        MUTEX,
        AT_WORK,
        first=transaction(do(World.enqueue, "a", dedup_id="same"), end=end),
        second=alone(World.enqueue, "b", dedup_id="same"),
    )
    SPECS.add(
        f"two transactions enqueue many with the same ids, the first ends with {end}",
        MUTEX,
        AT_WORK,
        first=transaction(do(World.enqueue_with_ids, "a", "b"), end=end),
        second=alone(World.enqueue_with_ids, "b", "a", "c"),
    )


@pytest.mark.parametrize("made", SPECS, ids=lambda made: made.name)
def test_every_order(made: Spec[World], stage: Stage, request: pytest.FixtureRequest) -> None:
    check(stage, made, request.config)
