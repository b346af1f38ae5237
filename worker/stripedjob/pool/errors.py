"""The errors of the pool, and the one table that tells by SQLSTATE which of them a failure is.

The server's words are in its own language and change between versions: nothing is decided by them. A docstring is the
message where none is given.
"""


class PoolError(Exception):
    """The pool could not do what was asked."""

    def __init__(self, message: str | None = None, sqlstate: str | None = None) -> None:
        """Take the message, or the class's own, and what Postgres called it, where it was Postgres that failed."""
        super().__init__(message or self.__doc__)
        self.sqlstate = sqlstate


class PoolUnreachableError(PoolError):
    """Postgres cannot be reached or used now; nothing was lost, and it is tried again over a new connection."""


class PoolRetryError(PoolUnreachableError):
    """Postgres was busy: a deadlock, a serialization failure or a time-out; the same call is made again."""


class PoolDataError(PoolError):
    """Postgres cannot store the content of what was sent."""


class PoolSchemaError(PoolError):
    """The pool's schema is missing or of another version; run `stripedjob migrate`."""


class PoolRefusedError(PoolError):
    """Postgres refused: a wrong password, a missing database, or no permission. Trying again does not help."""


class PoolConfigError(PoolError):
    """The Postgres URL cannot be used."""


class TryLostError(PoolError):
    """The pool could not be reached around a handler's transaction; that was no try of its units."""


class SharedLostError(PoolError):
    """The transaction that units share cannot be committed; nothing of it was, and each runs in one of its own."""


class WorkerLostError(PoolError):
    """The worker's lease ran out and it was considered dead; it must stop its work and register again."""


WORKER_LOST, SESSION_OVER = "SJ001", "SJ002"  # raised by lock_worker() in SQL
FOR_A_PERSON = (PoolRefusedError, PoolSchemaError, PoolConfigError)  # they do not pass by themselves
NOT_PERMITTED = "42501"
NO_SUCH_JOB = "P0002"  # no_data_found, raised by job_id() in SQL

# The longest prefix of the SQLSTATE decides. What none fits is a plain PoolError.
BY_SQLSTATE: dict[str, type[PoolError]] = {
    "08": PoolUnreachableError,  # connection exceptions
    "25": PoolUnreachableError,  # a transaction that cannot go on: read-only (a stand-by), failed, or idle for too long
    "53": PoolUnreachableError,  # out of connections, memory or disk
    "57P": PoolUnreachableError,  # shut down, starting, or ended by an administrator
    "58": PoolUnreachableError,  # errors of the system under it
    "F0": PoolUnreachableError,  # its configuration is being changed
    "XX": PoolUnreachableError,  # errors inside of it; what lasts is found out by the bound of trying
    SESSION_OVER: PoolUnreachableError,
    "40": PoolRetryError,  # serialization failure, deadlock
    "55": PoolRetryError,  # a lock that was not available in time, an object in use
    "57014": PoolRetryError,  # statement_timeout, or somebody cancelled it
    "22": PoolDataError,  # the value does not fit its type
    "23": PoolDataError,  # a constraint
    "54": PoolDataError,  # a limit of Postgres
    "28": PoolRefusedError,  # authentication
    "3D": PoolRefusedError,  # no such database
    NOT_PERMITTED: PoolRefusedError,
    "42883": PoolSchemaError,  # no such function
    "42P01": PoolSchemaError,  # no such table
    "42703": PoolSchemaError,  # no such column
    "42704": PoolSchemaError,  # no such type
    "3F": PoolSchemaError,  # no such schema
    "25001": PoolError,  # our own mistake
    WORKER_LOST: WorkerLostError,
}


def class_of(sqlstate: str | None) -> type[PoolError]:
    """Return the class of a failure with this SQLSTATE; without one, the connection has failed."""
    if not sqlstate:
        return PoolUnreachableError
    lengths = (len(sqlstate), 3, 2)
    return next((BY_SQLSTATE[sqlstate[:n]] for n in lengths if sqlstate[:n] in BY_SQLSTATE), PoolError)
