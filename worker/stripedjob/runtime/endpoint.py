"""Handler `http`: a POST for each unit, with the unit as its JSON body.

2xx: done; 429 and 503: retry, after what Retry-After says; any other 4xx: dead; everything else: retry. The headers
Stripedjob-Resource (percent-encoded UTF-8), -Fence and -Unit are the idempotency key.
"""

import datetime as dt
import email.utils
from http import HTTPStatus
from urllib.parse import quote

import aiohttp

from stripedjob.runtime.handlers import as_json
from stripedjob.runtime.work import Dead, Retry, Unit

REASON_BYTES_MAX = 500  # of the answer's body
RETRY_AFTER_SECONDS_MAX = 86_400.0


class Endpoint:
    """Posts units to a URL, over connections that stay open."""

    def __init__(self, url: str, timeout_seconds: float) -> None:
        """Take where to; the connections are made in the loop that calls."""
        self._url, self._timeout_seconds = url, timeout_seconds
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, unit: Unit) -> None:
        """Post it; raises Retry or Dead as the answer says."""
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=self._timeout_seconds)
            self._session = aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0))
        headers = {
            "Content-Type": "application/json",
            "Stripedjob-Resource": quote(unit.resource, safe=""),
            "Stripedjob-Fence": str(unit.fence),
            "Stripedjob-Unit": str(unit.id),
            "Stripedjob-Attempt": str(unit.attempt),
        }
        try:
            async with self._session.post(self._url, data=as_json(unit), headers=headers) as answer:
                words = (await answer.content.read(REASON_BYTES_MAX)).decode(errors="replace").strip()
        except TimeoutError:
            raise Retry(f"no answer within {self._timeout_seconds:g} s") from None
        except aiohttp.ClientError as error:
            raise Retry(f"{type(error).__name__}: {error}") from error
        if answer.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise _error(answer.status, answer.headers.get("Retry-After"), words)


def _error(status: int, retry_after: str | None, words: str) -> Retry | Dead:
    reason = f"HTTP {status}: {words}" if words else f"HTTP {status}"
    if status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
        return Retry(reason, after=_seconds(retry_after))
    is_client_error = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    return Dead(reason) if is_client_error else Retry(reason)


def _seconds(retry_after: str | None) -> float | None:
    """Read Retry-After: seconds or a date; None where it is missing or makes no sense."""
    if retry_after is None:
        return None
    if retry_after.isdecimal():
        return min(float(retry_after), RETRY_AFTER_SECONDS_MAX)
    try:
        date = email.utils.parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    seconds = (date - dt.datetime.now(dt.UTC)).total_seconds()
    return min(max(0.0, seconds), RETRY_AFTER_SECONDS_MAX)
