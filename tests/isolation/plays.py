"""All the orders of a spec: every interleaving of its steps, or one session stopped at each gate in turn."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from tests.isolation.harness import InfeasibleError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.isolation.harness import Order, Spec, Stage, Trace


def orders(steps: Mapping[str, int], infeasible: set[Order], taken: Order = ()) -> Iterator[Order]:
    """Yield every interleaving of so many steps of each session, but for those that begin with an infeasible one."""
    if not any(steps.values()):
        yield taken
    for name, left in steps.items():
        if any(taken[:n] in infeasible for n in range(len(taken) + 1)):
            return
        if left:
            yield from orders({**steps, name: left - 1}, infeasible, (*taken, name))


def play_all(stage: Stage, spec: Spec[Any], only: Order | None = None) -> dict[Order, Trace]:
    """Play every order of the spec that is possible, or one alone."""
    infeasible: set[Order] = set()
    played: dict[Order, Trace] = {}
    counts = {name: len(steps) for name, steps in spec.sessions.items()}
    for order in [only] if only else spec.orders or orders(counts, infeasible):
        try:
            played[order] = stage.play(spec, order)
        except InfeasibleError as error:
            if only:
                raise
            infeasible.add(error.prefix)
    assert played, "no order of the spec is possible"
    return played


def preempt_all(stage: Stage, spec: Spec[Any], only: Order | None = None) -> dict[Order, Trace]:
    """Preempt the first of the spec's two sessions at each of its gates, or at one alone."""
    first, second = spec.sessions
    played: dict[Order, Trace] = {}
    for gate in itertools.count(int(only[0].partition("@")[2]) if only else 1):
        trace, stopped = stage.preempt(spec, gate)
        played[f"{first}@{gate}", second] = trace
        if only or not stopped:
            break
    return played
