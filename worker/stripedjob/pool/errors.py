"""The errors of the pool. A docstring is the message where none is given."""


class PoolError(Exception):
    """The pool could not do what was asked."""

    def __init__(self, message: str | None = None) -> None:
        """Take the message, or the class's own."""
        super().__init__(message or self.__doc__)


class PoolUnreachableError(PoolError):
    """Postgres cannot be reached; nothing was lost, and it is tried again."""


class PoolSchemaError(PoolError):
    """The pool's schema is missing or of another version; run `stripedjob migrate`."""


class WorkerLostError(PoolError):
    """The worker's lease ran out and it was taken for dead; it must stop its work and register anew."""


class PoolRefusedError(PoolError):
    """Postgres refused: a wrong password, a missing database, or no permission. Trying again does not help."""


class TryLostError(PoolError):
    """The pool could not be reached around a handler's transaction; that was no try of its units."""
