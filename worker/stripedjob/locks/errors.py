"""What can go wrong with a lock backend: no error of redis or psycopg leaves this package."""


class LockError(Exception):
    """The lock backend did not do its part; the message names the server, the cause and the way out."""


class LockUnavailable(LockError):  # noqa: N818 - the state of the world, not a mistake of ours
    """The backend cannot be used now. Waiting and trying again is right: it may come back by itself."""


class LockConfigError(LockError):
    """The backend cannot work as it is set up: URL, password, TLS, rights or version. A person has to act."""
