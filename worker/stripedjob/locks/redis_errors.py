"""From redis-py's errors to ours: which pass by themselves, which need a person, and what for.

Called by redis.py at its edge. A pure function of the error.
"""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass

from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    InvalidResponse,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
)

from stripedjob.locks.errors import LockConfigError, LockError, LockUnavailable


@dataclass(frozen=True)
class Rule:
    """Errors of these classes whose message contains `text` become `ours`, with the way out."""

    ours: type[LockError]
    way_out: str
    classes: tuple[type[Exception], ...]
    text: str

    def fits(self, error: BaseException) -> bool:
        """Return whether the rule is about this error."""
        return isinstance(error, self.classes) and self.text in str(error).lower()


def _lasting(way_out: str, *classes: type[Exception], text: str = "") -> Rule:
    return Rule(LockConfigError, way_out, classes or (Exception,), text)


def _passing(way_out: str, *classes: type[Exception], text: str = "") -> Rule:
    return Rule(LockUnavailable, way_out, classes or (Exception,), text)


# The first that fits decides. What a script meets is recognised by its text: Redis 6 drops the code of such errors.
RIGHTS = "allow this user +ping +@scripting +@keyspace +@read +@write on the keys of the prefix"
NOT_WRITABLE = "can't write against a read only"
RULES = (
    _lasting(
        "check the user name and the password in the lock's URL",
        AuthenticationError,
        AuthenticationWrongNumberOfArgsError,
        AuthorizationError,
    ),
    _lasting(RIGHTS, NoPermissionError),
    _lasting(RIGHTS, text="acl failure in script"),
    _lasting("name the authority with ?ssl_ca_certs=FILE", ssl.SSLCertVerificationError),
    _lasting("the server is part of a cluster: use redis+cluster://", MovedError),
    _lasting("the server is no cluster: leave out +cluster in the URL", text="cluster mode is not enabled"),
    _lasting("the server is no cluster: leave out +cluster in the URL", text="cluster support disabled"),
    _lasting("use a database number that the server has", text="db index is out of range"),
    _lasting("use Redis 6.2 or later, or Valkey, with scripts enabled", text="unknown command"),
    _passing("what listens there does not speak Redis' protocol: check host and port", InvalidResponse),
    _passing("it is loading its data: wait until it has", BusyLoadingError),
    _passing("it is a replica, as after a fail-over; if it stays one, name the primary", ReadOnlyError),
    _passing("it is a replica, as after a fail-over; if it stays one, name the primary", text=NOT_WRITABLE),
    _passing("check that Sentinel runs, monitors this name, and reaches a primary", MasterNotFoundError),
    _passing("nobody serves some of the cluster's slots: see CLUSTER INFO", ClusterDownError),
    _passing("raise maxmemory, or give the locks a server of their own", OutOfMemoryError),
    _passing("raise maxmemory, or give the locks a server of their own", text="command not allowed when used mem"),
)
OTHERWISE = "check that it runs, that this machine may reach it, and that both sides agree on TLS"


def translated(error: Exception, where: str) -> LockError:
    """Return our error for redis-py's, seen on the server `where`."""
    chain = list(_chain(error))
    for rule in RULES:
        if any(rule.fits(link) for link in chain):
            return rule.ours(f"{where}: {_cause(error)}: {rule.way_out}")
    return LockUnavailable(f"{where}: {_cause(error)}: {OTHERWISE}")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and what it came from: redis-py wraps TLS errors, and those of a cluster's nodes."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__


def _cause(error: Exception) -> str:
    """Return the server's words or the system's, but never what a stranger at that address may have said."""
    if any(isinstance(link, InvalidResponse) for link in _chain(error)):
        return "the answer makes no sense"
    return str(error).strip().rstrip(".") or type(error).__name__
