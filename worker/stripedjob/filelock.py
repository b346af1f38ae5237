"""Advisory file locks (flock) that the kernel gives back when their process ends, however it ends.

Called by local/ (engines and their keepers) and runtime/pidfile.py.
A lock belongs to the open file: close the descriptor to give it back.
"""

import contextlib
import fcntl
import os
import time
from pathlib import Path

POLL_SECONDS = 0.02


def try_take(path: Path, *, shared: bool = False) -> int | None:
    """Return a descriptor that holds the lock, or None when somebody else has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def take(path: Path, *, shared: bool = False, seconds: float) -> int | None:
    """Wait at most `seconds` for the lock; None when somebody else had it."""
    deadline = time.monotonic() + seconds
    while (descriptor := try_take(path, shared=shared)) is None and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return descriptor


def take_when_alone(path: Path) -> int:
    """Block, without a bound, until nobody else has the lock: for a process that has nothing else to do."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def lend(descriptor: int, seconds: float) -> None:
    """Let others have a lock that is held alone, for this long; then block until nobody else has it."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    time.sleep(seconds)
    fcntl.flock(descriptor, fcntl.LOCK_EX)


def is_held(path: Path) -> bool:
    """Return whether somebody holds the lock exclusively; a missing directory holds nothing."""
    with contextlib.suppress(FileNotFoundError):
        descriptor = try_take(path, shared=True)
        if descriptor is None:
            return True
        os.close(descriptor)
    return False
