"""Which lock backend a job has. Each is imported only when it is asked for: redis-py alone takes more than 20 MB."""

from stripedjob.locks.backend import LockBackend, LockSettings


def open_lock(settings: LockSettings) -> LockBackend:
    """Make the backend that the settings name, without connecting; raises LockConfigError for a bad URL."""
    if settings.backend == "Redis":
        from stripedjob.locks.redis import RedisLock  # noqa: PLC0415 - see the module's docstring

        return RedisLock(settings)
    from stripedjob.locks.postgres import PostgresLock  # noqa: PLC0415 - see the module's docstring

    return PostgresLock(settings)
