"""Who may ask what: the Host header, tokens against forged requests, and the headers of every answer.

The page listens on 127.0.0.1 alone and knows no users; so what other pages in the same browser can do is what is kept
out: their scripts may send requests here, and cannot read the answers. A name of theirs that leads to 127.0.0.1 would
make this page theirs to read, and is refused.
"""

import hmac
import secrets
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from aiohttp import web

OWN_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True, slots=True)
class Rights:
    """What may be done: change what is in the pool, see payloads."""

    actions: bool = False
    payloads: bool = False


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens that only this process makes, each good for one action on one thing."""

    _secret: bytes = field(default_factory=lambda: secrets.token_bytes(32))

    def make(self, subject: str) -> str:
        """Return the token of an action: of its path and query."""
        return hmac.digest(self._secret, subject.encode(), "sha256").hex()

    def is_good(self, subject: str, token: str) -> bool:
        """Return whether the token is this action's."""
        return hmac.compare_digest(self.make(subject).encode(), token.encode())


def host_of(request: web.Request) -> str:
    """Return the name in the Host header, without its port; "" where that cannot be read."""
    try:
        return (urlsplit(f"//{request.headers.get('Host', '')}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def is_of_this_page(request: web.Request) -> bool:
    """Return whether the browser sends it for a page of ours, as far as it says so."""
    origin = request.headers.get("Origin")
    site = request.headers.get("Sec-Fetch-Site", "same-origin")
    return site in ("same-origin", "none") and (origin is None or urlsplit(origin).netloc == request.headers["Host"])


async def add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """Add to every answer what keeps it from being framed, kept, sniffed or added to."""
    response.headers.update(HEADERS)
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers.pop("Server", None)
