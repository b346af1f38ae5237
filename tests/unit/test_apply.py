"""Before there are fewer workers, the pods that are idle are marked: Kubernetes ends those first."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from stripedjob_operator.apply import Applier
from stripedjob_operator.observed import Observed

KEY = ("shop", "prices")


class Cluster:
    """Takes the annotations of pods."""

    def __init__(self) -> None:
        self.costs: dict[str, str] = {}

    async def annotate_pod(self, key: tuple[str, str], annotations: dict[str, str]) -> None:
        (self.costs[key[1]],) = annotations.values()


def pod(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {}}


def mark(names: str, working: frozenset[str] | None, replicas: int) -> tuple[bool, dict[str, str]]:
    """Mark those of these pods that are idle; returns whether there may be fewer now, and how they are marked."""
    cluster, observed = Cluster(), Observed()
    for name in names:
        observed.pod_seen(KEY, pod(name))
    database: Any = SimpleNamespace(jobs={KEY: None}, problem=None, busy=lambda _key: working)
    nothing: Any = None
    applier = Applier(cast("Any", cluster), observed, secrets=nothing, settings=nothing)
    return asyncio.run(applier._mark_idle(KEY, replicas, database)), cluster.costs


@pytest.mark.parametrize(
    ("names", "working", "replicas", "marked"),
    [
        ("abc", frozenset("b"), 3, (True, {"a": "-1000", "c": "-1000"})),
        ("abc", frozenset("b"), 1, (True, {"a": "-1000", "c": "-1000"})),  # two of them are about to go
        ("abc", None, 3, (False, {})),  # the pool is being asked
        ("b", frozenset("b"), 3, (False, {})),  # a new operator's watch has not delivered the others
        ("", frozenset(), 0, (True, {})),
    ],
)
def test_idle_pods_are_marked_where_all_are_known(
    names: str, working: frozenset[str] | None, replicas: int, marked: tuple[bool, dict[str, str]]
) -> None:
    assert mark(names, working, replicas) == marked
