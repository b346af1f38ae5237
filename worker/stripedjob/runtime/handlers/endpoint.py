"""Handler `http`: a POST for each unit, with the unit as its JSON body.

2xx: done; 429 and 503: retry, after what Retry-After says; any other 4xx: dead; everything else: retry, also a
redirect, which is not followed. The headers Stripedjob-Resource (percent-encoded UTF-8), -Fence and -Unit are the
idempotency key. The status decides: what follows it is read for the reason alone, within bounds.
"""

import asyncio
import contextlib
import datetime as dt
import email.utils
from http import HTTPStatus
from typing import Self
from urllib.parse import quote, urlsplit, urlunsplit

import aiohttp

from stripedjob.tracing import current_traceparent
from stripedjob.unit import Dead, Retry, Unit, as_json

REASON_BYTES_MAX = 500  # of the answer's body
REASON_SECONDS_MAX = 1.0  # for that to come
LOCATION_CHARACTERS_MAX = 200
RETRY_AFTER_SECONDS_MAX = 86_400.0


class Endpoint:
    """Posts units to a URL, over connections that stay open while the context lasts; nothing else is kept."""

    def __init__(self, url: str, timeout_seconds: float) -> None:
        """Take where to."""
        self._url, self._timeout_seconds = url, timeout_seconds

    async def __aenter__(self) -> Self:
        """Get ready."""
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._timeout_seconds),
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),  # a cookie of one unit is no matter of the next
            auto_decompress=False,  # a small answer may be a large one
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await self._session.close()

    async def __call__(self, unit: Unit) -> None:
        """Post it; raises Retry or Dead as the answer says."""
        headers = {
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
            "Stripedjob-Resource": quote(unit.resource, safe=""),
            "Stripedjob-Fence": str(unit.fence),
            "Stripedjob-Unit": str(unit.id),
            "Stripedjob-Attempt": str(unit.attempt),
        }
        if traceparent := current_traceparent() or unit.traceparent:
            headers["traceparent"] = traceparent
        try:
            async with self._session.post(
                self._url, data=as_json(unit), headers=headers, allow_redirects=False
            ) as answer:
                words = await _words(answer.content)
        except TimeoutError:
            raise Retry(f"no answer within {self._timeout_seconds:g} s") from None
        except aiohttp.ClientError as error:
            raise Retry(_trouble(error)) from error
        if answer.status not in range(HTTPStatus.OK, HTTPStatus.MULTIPLE_CHOICES):
            raise _error(answer, words)


async def _words(body: aiohttp.StreamReader) -> str:
    """Read the beginning of an answer, as much of it as comes soon."""
    words = b""
    with contextlib.suppress(TimeoutError, aiohttp.ClientError):
        async with asyncio.timeout(REASON_SECONDS_MAX):
            while len(words) < REASON_BYTES_MAX and (part := await body.read(REASON_BYTES_MAX - len(words))):
                words += part
    return words.decode(errors="replace").strip()


def _trouble(error: aiohttp.ClientError) -> str:
    """Name what went wrong without the URL, which may hold a password."""
    match error:
        case aiohttp.ClientConnectorError():
            return f"{type(error).__name__}: {error.os_error}"
        case aiohttp.ClientResponseError():
            return f"{type(error).__name__}: {error.message}"
        case aiohttp.InvalidURL():
            return "InvalidURL: spec.handler.http cannot be used"
    return f"{type(error).__name__}: {error}"


def _error(answer: aiohttp.ClientResponse, words: str) -> Retry | Dead:
    status, location = answer.status, answer.headers.get("Location")
    reason = f"HTTP {status}: {words}" if words else f"HTTP {status}"
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST and location is not None:
        return Retry(f"HTTP {status}: it points to {_shown(location)}, and redirects are not followed")
    if status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
        return Retry(reason, after=_seconds(answer.headers.get("Retry-After")))
    is_client_error = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    return Dead(reason) if is_client_error else Retry(reason)


def _shown(location: str) -> str:
    """Return a URL without what may be secret in it: user, password, query."""
    try:
        url = urlsplit(location)
        shown = urlunsplit((url.scheme, url.netloc.rpartition("@")[2], url.path, "", ""))
    except ValueError:
        return "what is no URL"
    return shown[:LOCATION_CHARACTERS_MAX]


def _seconds(retry_after: str | None) -> float | None:
    """Read Retry-After: seconds or a date; None where it is missing or makes no sense."""
    if retry_after is None:
        return None
    if retry_after.isascii() and retry_after.isdecimal():
        return min(float(retry_after[:20]), RETRY_AFTER_SECONDS_MAX)
    try:
        date = email.utils.parsedate_to_datetime(retry_after)
        seconds = (date.replace(tzinfo=date.tzinfo or dt.UTC) - dt.datetime.now(dt.UTC)).total_seconds()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return min(max(0.0, seconds), RETRY_AFTER_SECONDS_MAX)
