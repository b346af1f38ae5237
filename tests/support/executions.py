"""What handlers did, as they saw it themselves: for each execution its interval, resource and unit."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path


class Execution(NamedTuple):
    """One call of the handler; times in ns of the machine's monotonic clock."""

    began: int
    ended: int
    resource: str
    unit: int


def read_log(path: Path) -> list[Execution]:
    """Read what `tests.support.handlers:logged` wrote, in the order in which the executions began."""
    lines = [line.split() for line in path.read_text().splitlines()]
    return sorted(Execution(int(began), int(ended), resource, int(unit)) for began, ended, resource, unit in lines)


def overlaps(executions: Iterable[Execution]) -> int:
    """Count the executions that began before the one before them of the same resource had ended."""
    by_resource: dict[str, list[Execution]] = defaultdict(list)
    for one in sorted(executions):
        by_resource[one.resource].append(one)
    return sum(later.began < one.ended for its in by_resource.values() for one, later in pairwise(its))


def inversions(executions: Sequence[tuple[str, int]]) -> int:
    """Count the (resource, unit) that were first executed after a later unit of their resource."""
    first = dict.fromkeys(executions)  # an execution that is repeated counts as its first
    newest: dict[str, int] = defaultdict(int)
    late = 0
    for resource, unit in first:
        late += unit < newest[resource]
        newest[resource] = max(newest[resource], unit)
    return late
