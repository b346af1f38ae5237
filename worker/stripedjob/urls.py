"""URLs of servers, as they may be shown and as people get them wrong. Used by the pool and by the lock backends.

The parsers of others quote what they cannot read, with the password in it; so mistakes are found here first, and are
named in words that quote nothing.
"""

import re

SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
ENCODED = re.compile(r"(?:[^%/@\s]|%[0-9A-Fa-f]{2})*")  # as libpq reads user and password
SEPARABLE = re.compile(r"[^/?#]*")  # as urllib does
HOST_AND_PORT = re.compile(r"(?:(?:[\w.~-]|%[0-9A-Fa-f]{2})*|\[[0-9A-Fa-f:.]+\])(?::\d*)?")
ESCAPES = "@ is %40, : is %3A, / is %2F, ? is %3F, # is %23, % is %25, and a space is %20"
MISPLACED = f"user or password have a character that must be percent-encoded: {ESCAPES}"


def mistake_in(url: str, *, encoded: bool = False) -> str | None:
    """Say what keeps `url` from being read as SCHEME://[USER[:PASSWORD]@]HOST[:PORT][/…][?…]; None: nothing does.

    `encoded`: whether an @, a % or a space in user and password must be percent-encoded, as libpq wants it.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or not SCHEME.fullmatch(scheme):
        return "it does not begin with a scheme and ://"
    before, after = _parted(rest)
    if "@" in after.partition("?")[0] or not (ENCODED if encoded else SEPARABLE).fullmatch(before):
        return MISPLACED
    places = re.split(r"[/?#]", after, maxsplit=1)[0].split(",")
    if not all(HOST_AND_PORT.fullmatch(place) for place in places):
        return "what stands after the @ is not HOST:PORT" if before else "it is not HOST:PORT after the ://"
    return None


def shown(url: str) -> str:
    """Show a URL in an error or a log: scheme, hosts and path, but neither user, password nor options."""
    if mistake_in(url) and mistake_in(url, encoded=True):
        return "(a URL that cannot be read)"
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{re.split(r'[?#]', _parted(rest)[1], maxsplit=1)[0]}"


def _parted(rest: str) -> tuple[str, str]:
    """Part what follows the scheme at the @ behind user and password."""
    authority, slash, path = rest.partition("/")
    before, _, hosts = authority.rpartition("@")
    return before, hosts + slash + path
