"""Which process works here: a file with its number, locked for as long as it works. For a pod's preStop hook.

Kubernetes sends SIGTERM to a container's first process alone, and where that is a shell the worker never hears of it.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stripedjob import filelock

HELD_SECONDS_MAX = 1.0  # as long as somebody may look whether it is held


@contextmanager
def holding(path: Path) -> Iterator[None]:
    """Hold the file. Raises OSError where another process does, or it cannot be written."""
    descriptor = filelock.take(path, seconds=HELD_SECONDS_MAX)
    if descriptor is None:
        raise OSError(f"{path}: another worker has it as its --pid-file")
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        yield
    finally:
        os.close(descriptor)


def drain(path: Path) -> bool:
    """Have the process that holds the file drain, and wait until it has; False where none does."""
    if not path.exists() or not filelock.is_held(path):
        return False
    os.kill(int(path.read_text()), signal.SIGTERM)
    os.close(filelock.take_when_alone(path))
    return True
