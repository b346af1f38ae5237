"""Of several operators one works; who ends in order leaves the Lease to the next at once."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster_kit.fixtures import Program, await_
from tests.support.operators import Jobs, Operator

from stripedjob_operator.leader import LEASE_SECONDS

if TYPE_CHECKING:
    from tests.support.measured import Measured


def is_leading(one: Operator) -> bool:
    return "leading" in one.log.read_text()


def answers(one: Operator) -> bool:
    try:
        return one.get("/livez") == "ok\n"
    except OSError:
        return False


def test_a_leader_that_is_told_to_end_leaves_the_lease(  # noqa: PLR0917 - fixtures
    operator: Operator, jobs: Jobs, kubectl: Program, namespace: str, tmp_path: Path, measured: Measured
) -> None:
    jobs.apply()
    jobs.until("Ready", "Idle")  # it has watches, a database and a lock backend, and all of them end
    await_("the first leads", lambda: is_leading(operator))
    second = Operator(kubectl.kubeconfig, namespace, tmp_path / "second.log").start()
    try:
        await_("the second waits", lambda: answers(second))
        assert not is_leading(second)
        told = time.monotonic()
        assert operator.stop() == 0
        measured("ended after", time.monotonic() - told)  # by itself, kopf waits 5 s for what runs beside it
        await_("the second leads", lambda: is_leading(second), LEASE_SECONDS / 2)
        jobs.apply("second", jobType="second")
        jobs.until("Ready", "Idle", "second")
    finally:
        second.stop()
