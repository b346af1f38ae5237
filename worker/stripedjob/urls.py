"""URLs of servers, as they may be shown and as people get them wrong. Used by the pool and by the lock backends.

The parsers of others quote what they cannot read, with the password in it; so mistakes are found here first, and are
named in words that quote nothing.
"""

import re

BEFORE_HOST = re.compile(r"(?:[^%/?#@\s\[\]]|%[0-9A-Fa-f]{2})*")
HOST_AND_PORT = re.compile(r"(?:(?:[\w.~-]|%[0-9A-Fa-f]{2})*|\[[0-9A-Fa-f:.]+\])(?::\d*)?")
ESCAPES = "@ is %40, : is %3A, / is %2F, ? is %3F, # is %23, % is %25, and a space is %20"


def mistake_in(url: str) -> str | None:
    """Say what keeps `url` from being read as SCHEME://[USER[:PASSWORD]@]HOST[:PORT][/…][?…]; None: nothing does."""
    scheme, separator, rest = url.partition("://")
    if not separator or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        return "it does not begin with a scheme and ://"
    before, at, after = rest.partition("?")[0].rpartition("@")
    if not BEFORE_HOST.fullmatch(before) or before.count(":") > 1:
        return f"user or password have a character that must be percent-encoded: {ESCAPES}"
    for place in re.split(r"[/?#]", after, maxsplit=1)[0].split(","):
        if not HOST_AND_PORT.fullmatch(place):
            return "what stands after the @ is not HOST:PORT" if at else "it is not HOST:PORT after the ://"
    return None


def shown(url: str) -> str:
    """Show a URL in an error or a log: scheme, hosts and path, but neither user, password nor options."""
    if mistake_in(url):
        return "(a URL that cannot be read)"
    scheme, _, rest = url.partition("://")
    before_options = re.split(r"[?#]", rest, maxsplit=1)[0]
    return f"{scheme}://{before_options.rpartition('@')[2]}"
