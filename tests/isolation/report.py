"""Plays a spec in all its orders, and says of those that fail what was done, who waited, and how to play them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tests.isolation.plays import play_all

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pytest
    from tests.isolation.harness import Order, Spec, Stage, Trace

SHOWN_MAX = 5


def check(
    stage: Stage, spec: Spec[Any], config: pytest.Config, play: Callable[..., Mapping[Order, Trace]] = play_all
) -> None:
    """Fail with the first orders in which something is wrong; `--order` and `--short` say which are played."""
    order = config.getoption("--order")
    played = play(stage, spec, tuple(order.split()) if order else None, short=config.getoption("--short"))
    failed = {taken: trace for taken, trace in played.items() if trace.faults}
    assert not failed, report(spec.name, len(played), failed)


def report(name: str, played: int, failed: dict[Order, Trace]) -> str:
    """Put the first order of each kind of fault in words."""
    lines = [f"{name}: {len(failed)} of {played} orders fail"]
    kinds = {re.sub(r"\d+", "", trace.faults[0]): order for order, trace in reversed(failed.items())}
    for order, trace in [(order, failed[order]) for order in list(kinds.values())[:SHOWN_MAX]]:
        lines += [f"scripts/test isolation -k '[{name}]' --order '{' '.join(order)}'", str(trace)]
    return "\n".join(lines)
