"""The four ways in which resources reach workers, and what each of them is made of.

Pure; read by spec and settings. All of them have the same pool, leases, fences and runtime. What differs is whether
workers claim by themselves or are assigned to by a delegator, and what follows for a resource when a unit fails.
"""

from dataclasses import dataclass
from typing import Literal

OnFailure = Literal["Block", "Skip", "Dead"]


@dataclass(frozen=True, slots=True)
class Strategy:
    """`delegated`: workers lease what a delegator has assigned to them, and nothing else. `on_failure`: the default."""

    delegated: bool
    on_failure: OnFailure


STRATEGIES = {
    "Mutex": Strategy(delegated=False, on_failure="Skip"),
    "FIFO": Strategy(delegated=False, on_failure="Block"),
    "Delegator": Strategy(delegated=True, on_failure="Skip"),
    "Throttled": Strategy(delegated=True, on_failure="Skip"),  # and keeps to spec.throttle
}
