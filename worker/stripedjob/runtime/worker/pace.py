"""Pure: how much a worker may lease ahead, from its own measured speed. Asked by the runtime before every claim.

Invariant (no hoarding): a worker leases no more than it will start within about AHEAD_SECONDS.
"""

from dataclasses import dataclass

AHEAD_SECONDS = 0.5
GROWTH_MAX = 32  # a claim is at most so many times the units of the one before: the measure of few units is rough
UNSHARED_SECONDS = 0.02  # what is worked within this time is not worth another worker's call
WEIGHT = 0.5  # of the newest measure in the running mean


@dataclass(frozen=True, slots=True)
class Pace:
    """What is known of the handler's speed, and how many units the last claim asked for.

    `unit_seconds` is None before the first measure; `resource_units` is the mean number of units that a lease brings.
    """

    unit_seconds: float | None = None
    units_asked: int = 0
    resource_units: float = 1.0

    def measured(self, units: int, resources: int, seconds: float) -> "Pace":
        """Take in that so many units of so many resources kept one slot busy for so many seconds."""
        if units <= 0:
            return self
        now = seconds / units
        old = now if self.unit_seconds is None else self.unit_seconds
        mean = units / max(1, resources)
        return Pace(
            old + WEIGHT * (now - old), self.units_asked, self.resource_units + WEIGHT * (mean - self.resource_units)
        )

    def unshared(self, slots: int, resources_max: int) -> int:
        """Say how many resources are not worth sharing with other workers: 0 before the first measure."""
        if self.unit_seconds is None:
            return 0
        seconds = self.unit_seconds * max(1.0, self.resource_units)
        return resources_max if seconds <= 0 else min(resources_max, int(slots * UNSHARED_SECONDS / seconds))

    def ask(self, slots: int, ahead: int, resources_max: int, units_max: int) -> tuple["Pace", int, int]:
        """Say how many resources, and units of each, to claim next, while `ahead` units are leased; (…, 0, 0): none.

        `slots` resources are worked on at the same time, so that is the least a claim of an idle worker asks for. Else
        half of what it may lease is worked off first: a claim costs about as much for two units as for twenty.
        """
        if self.unit_seconds is None:
            return (self, 0, 0) if ahead else (Pace(None, slots, self.resource_units), min(slots, resources_max), 1)
        affordable = resources_max * units_max
        if self.unit_seconds > 0:
            affordable = min(affordable, int(slots * AHEAD_SECONDS / self.unit_seconds))
        most = min(max(affordable, slots), GROWTH_MAX * max(self.units_asked, slots))
        units = most - ahead
        if units <= 0 or ahead > max(2 * slots, most // 2):
            return self, 0, 0
        each = max(1, min(units_max, units // slots))
        resources = max(1, min(resources_max, int(units / min(each, max(1.0, self.resource_units)))))
        return Pace(self.unit_seconds, units + ahead, self.resource_units), resources, each
