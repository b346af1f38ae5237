"""Pure: from what went wrong with a server to a Problem in our own words.

Who reads conditions, Events and logs is not who may read Secrets, and what listens at a URL may be anybody's: nothing
of a foreign message is passed on. It only decides which of our sentences is said; the server is named by host and port.
"""

import re
import traceback
from pathlib import Path

from stripedjob.locks import LockConfigError, LockError
from stripedjob.pool.errors import PoolError, PoolRefusedError, PoolSchemaError, PoolUnreachableError
from stripedjob_operator.observed import Problem
from stripedjob_operator.urls import without_secrets

ROLE = 'grant it to the role of the URL, or run `stripedjob migrate` as one that has it: see "The database"'
OWNER = 'run `stripedjob migrate` as that one: see "The database"'
GRANT = 'let the role of the URL be one of the pool\'s by `stripedjob grant`: see "The database"'
# By SQLSTATE, else by the words of libpq and of a server that speaks English; the first that fits is said.
REFUSALS = (
    ("28P01", r"password authentication failed", "password authentication failed: correct user or password in the URL"),
    ("28000", r"pg_hba\.conf|no password supplied", "its pg_hba.conf does not let this user in from here so"),
    ("28000", r'role ".*" does not exist', "there is no such user"),
    ("3D000", r'database ".*" does not exist', "there is no such database: create it, or correct the URL"),
    ("", r"permission denied for database", f"permission denied for database: the schema cannot be made; {ROLE}"),
    ("", r"lacks version .* belongs to", f"its schema is of an earlier version, and of another owner; {OWNER}"),
    ("42501", r"permission denied|must be owner", f"permission denied for what is in the schema; {GRANT}"),
)
TROUBLES = (
    ("57014", r"did not answer within|timeout|timed out", "it did not answer in time"),
    ("53300", r"too many clients|connection slots|too many connections", "it takes no more connections now"),
    ("57P03", r"starting up|shutting down|recovery mode|not yet accepting", "it is starting, stopping or recovering"),
    ("25006", r"read-only", "it is read-only, as after a fail-over"),
    ("", r"failed to resolve|translate host name|not known|No address", "its name cannot be resolved"),
    ("", r"Connection refused", "nothing listens there"),
    ("", r"SSL|TLS|certificate", "TLS could not be agreed on"),
    ("", r"closed the connection|EOF|reset by peer", "it closed the connection"),
)
LOCK_TROUBLES = {  # by the class of the error, or of one that it came from
    "AuthenticationError": "it refuses user or password: correct them in the URL",
    "AuthenticationWrongNumberOfArgsError": "it refuses user or password: correct them in the URL",
    "AuthorizationError": "it refuses user or password: correct them in the URL",
    "NoPermissionError": "the user may not do what locks need: see docs/locks.md",
    "SSLCertVerificationError": "its certificate is of an authority that the operator does not know",
    "SSLError": "TLS could not be agreed on",
    "BusyLoadingError": "it is loading its data: wait until it has",
    "ReadOnlyError": "it is a replica, as after a fail-over; if it stays one, name the primary",
    "MasterNotFoundError": "Sentinel knows no primary of this name, or cannot be reached",
    "ClusterDownError": "nobody serves some of the cluster's slots",
    "MovedError": "it is part of a cluster: use redis+cluster://",
    "gaierror": "its name cannot be resolved",
    "ConnectionRefusedError": "nothing listens there",
    "InvalidResponse": "what listens there does not speak Redis' protocol",
    "TimeoutError": "it did not answer in time",
}
MESSAGE_CHARS_MAX = 300  # of what Postgres says of a query
NETWORK = "is it up, the URL right, and does a NetworkPolicy let the operator's namespace reach it?"


def pool_problem(error: Exception, where: str) -> Problem:
    """Say why a pool cannot be used. `where`: HOST:PORT."""
    code, text = _code(error), _text(error)
    match error:
        case PoolSchemaError():
            return Problem("PoolSchema", str(error))  # migrate's own words: names and versions
        case PoolRefusedError():
            words = _first(REFUSALS, code, text) or "it refuses user, password or database of the URL, or a permission"
            return Problem("PoolRefused", f"Postgres at {where} refused: {words}")
        case PoolUnreachableError():
            words = _first(TROUBLES, code, text) or "there is no connection"
            return Problem("PoolUnreachable", f"Postgres at {where} cannot be used: {words}; {NETWORK}")
        case PoolError():
            words = _first((*REFUSALS, *TROUBLES), code, text) or "it did not do what was asked"
            return Problem("PoolRefused", f"Postgres at {where}: {words}{_coded(code)}")
    return Problem("PoolRefused", f"Postgres at {where} answers otherwise than a pool does")


def schedule_problem(error: Exception, seconds: float, url: str) -> Problem:
    """Say why a schedule's query failed: what Postgres says first of it, which its author needs, and no detail.

    `seconds`: how long it may take. `url`: whose password is hidden.
    """
    code = _code(error)
    if code == "57014" or (code == "" and "did not answer within" in str(error)):
        words = f"it took longer than {seconds:g} s"
    elif code:
        told = next((str(link.diag.message_primary) for link in _chain(error) if hasattr(link, "diag")), "it failed")
        words = without_secrets(told, [url])[:MESSAGE_CHARS_MAX] + _coded(code)
    else:
        words = "the connection was lost while it ran"
    return Problem("ScheduleFailed", f"spec.schedule.enqueue.sql: {words}")


def lock_problem(error: Exception, where: str) -> Problem:
    """Say why a lock backend cannot be used. `where`: HOST:PORT."""
    names = {one.__name__ for link in _chain(error) for one in type(link).__mro__}
    words = next((words for name, words in LOCK_TROUBLES.items() if name in names), None)
    words = words or _first((*REFUSALS, *TROUBLES), _code(error), _text(error))
    if words is None and isinstance(error, LockConfigError):
        words = "it cannot be used as it is set up: is it Redis 6.2 or later, or Valkey, the database there, a cluster?"
    elif words is None and not isinstance(error, LockError):
        words = "it answers otherwise than a lock backend does"
    return Problem("LockUnreachable", f"the lock backend at {where}: {words or 'it cannot be reached'}; {NETWORK}")


def origin(error: Exception) -> str:
    """Say where an error of no known kind comes from, without its words."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {Path(frame.filename).name}, line {frame.lineno}"


def _code(error: Exception) -> str:
    """Return the SQLSTATE of what the error came from; empty where the server gave none."""
    return next((str(code) for link in _chain(error) if (code := getattr(link, "sqlstate", None))), "")


def _text(error: Exception) -> str:
    return " ".join(str(link) for link in _chain(error))


def _chain(error: BaseException) -> list[BaseException]:
    """Return the error and all that it came from, the nearest first."""
    links = [error]
    for link in links:  # which grows
        links += [one for one in (link.__cause__, link.__context__) if one is not None and one not in links]
    return links


def _first(table: tuple[tuple[str, str, str], ...], code: str, text: str) -> str | None:
    return next((words for known, signs, words in table if re.search(signs, text) or (code and known == code)), None)


def _coded(code: str) -> str:
    return f" (SQLSTATE {code})" if re.fullmatch(r"[0-9A-Z]{5}", code) else ""
