"""All the orders of a spec: every interleaving of its steps, or one session stopped at each gate in turn."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, TypeVar

from tests.isolation.harness import InfeasibleError

SHORT_ORDERS, SHORT_GATES = 20, 5  # of each spec, so that on two cores all tests take minutes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tests.isolation.harness import Order, Spec, Stage, Trace

T = TypeVar("T")


def orders(steps: Mapping[str, int], infeasible: set[Order], taken: Order = ()) -> Iterator[Order]:
    """Yield every interleaving of so many steps of each session, but for those that begin with an infeasible one."""
    if not any(steps.values()):
        yield taken
    for name, left in steps.items():
        if is_infeasible(taken, infeasible):
            return
        if left:
            yield from orders({**steps, name: left - 1}, infeasible, (*taken, name))


def is_infeasible(order: Order, infeasible: set[Order]) -> bool:
    """Return whether an order begins with one that is not possible."""
    return any(order[:n] in infeasible for n in range(len(order) + 1))


def play_all(stage: Stage, spec: Spec[Any], only: Order | None = None, *, short: bool = False) -> dict[Order, Trace]:
    """Play every order of the spec that is possible, one alone, or some."""
    infeasible: set[Order] = set()
    played: dict[Order, Trace] = {}
    counts = {name: len(steps) for name, steps in spec.sessions.items()}
    wanted = [only] if only else spec.orders or orders(counts, infeasible)
    for order in _shuffled(spec, wanted) if short else wanted:
        if short and (len(played) == SHORT_ORDERS or is_infeasible(order, infeasible)):
            continue
        try:
            played[order] = stage.play(spec, order)
        except InfeasibleError as error:
            if only:
                raise
            infeasible.add(error.prefix)
    assert played, "no order of the spec is possible"
    return played


def preempt_all(stage: Stage, spec: Spec[Any], only: Order | None = None, *, short: bool = False) -> dict[Order, Trace]:
    """Preempt the first of the spec's two sessions at each of its gates, at one alone, or at some."""
    first, second = spec.sessions
    gates = [int(only[0].partition("@")[2])] if only else list(range(1, stage.count_gates(spec) + 1))
    if short:
        gates = sorted(_shuffled(spec, gates)[:SHORT_GATES])
    return {(f"{first}@{gate}", second): stage.preempt(spec, gate) for gate in gates}


def _shuffled(spec: Spec[Any], things: Iterable[T]) -> list[T]:
    """Return these in an order that is the spec's own, and always the same."""
    some = list(things)
    random.Random(spec.name).shuffle(some)
    return some
