"""Which lock backend a job has. Each is imported only when it is asked for: redis-py alone takes more than 20 MB.

Wherever OpenTelemetry is installed, redis-py imports its SDK as well, for metrics of its own that nobody here asks for.
That would be a fifth of the CPU of a worker's start, so redis-py finds it missing.
"""

import contextlib
import sys
from collections.abc import Iterator

from stripedjob.locks.backend import LockBackend, LockSettings


def open_lock(settings: LockSettings) -> LockBackend:
    """Make the backend that the settings name, without connecting; raises LockConfigError for a bad URL."""
    if settings.backend == "Redis":
        with _missing("opentelemetry"):
            from stripedjob.locks.redis import RedisLock  # noqa: PLC0415 - see the module's docstring

        return RedisLock(settings)
    from stripedjob.locks.postgres import PostgresLock  # noqa: PLC0415 - see the module's docstring

    return PostgresLock(settings)


@contextlib.contextmanager
def _missing(package: str) -> Iterator[None]:
    """Have imports of a package fail meanwhile, unless it is there already: None stands for what cannot be imported."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]
