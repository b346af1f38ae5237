"""The clock of leases: monotonic, the same in all processes of a machine, and going on while the machine sleeps.

Used for deadlines by the loop, the executor and its supervisor, and in the state that they share.
"""

import time

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # Linux has it; elsewhere a sleep is not counted


def now() -> float:
    """Return the time in seconds since some moment in the past."""
    return time.clock_gettime(_CLOCK)
