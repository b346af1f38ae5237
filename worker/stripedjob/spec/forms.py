"""Forms of text in a StripedJob: each as Python judges it, and as the API server can, in a pattern or in CEL.

CEL accepts whatever Python accepts. It cannot see a range that runs backwards nor a day that no month has: of these the
operator says InvalidSpec.
"""

import datetime as dt
import re
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

SECRET_NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"  # noqa: S105 - no secret
SECRET_KEY_PATTERN = r"^[-._a-zA-Z0-9]+$"  # noqa: S105 - no secret
_NAME = r"[A-Za-z_][A-Za-z0-9_]*"  # not \w: to Python it is more letters than to the API server
_NAMES = rf"{_NAME}(\.{_NAME})*"
FUNCTION_PATTERN = rf"^{_NAMES}:{_NAMES}$"
SCHEMA_PATTERN = r"^[^\x00-\x1f\x7f-\x9f]+$"  # what Postgres takes, but no control characters
SCHEMA_BYTES_MAX = 63  # as for every name in Postgres
SCHEMA_BYTES_CEL = f"size(bytes(self.schema)) <= {SCHEMA_BYTES_MAX}"

_NUMBERS = {  # of each field of a cron expression
    "minute": "0*[0-5]?[0-9]",
    "hour": "0*(1?[0-9]|2[0-3])",
    "day": "0*([1-9]|[12][0-9]|3[01])",
    "month": "(0*([1-9]|1[0-2])|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)",
    "weekday": "(0*[0-7]|sun|mon|tue|wed|thu|fri|sat)",
}
_STEP = "(/0*[1-9][0-9]*)?"
_SPECIAL = {"day": (f"lw?{_STEP}",), "weekday": ("0*[0-7]l", f"{_NUMBERS['weekday']}#0*[1-5]")}


def _cron_field(name: str, number: str) -> str:
    term = "|".join((rf"(\*|{number}(-{number})?){_STEP}", *_SPECIAL.get(name, ())))
    return f"({term})(,({term}))*"


_GAP = r"[ \t]"
_FIELDS = f"{_GAP}+".join(_cron_field(name, number) for name, number in _NUMBERS.items())
CRON_PATTERN = f"(?i)^{_GAP}*{_FIELDS}{_GAP}*$"
CRON_CEL = f"self.cron.matches(r'{CRON_PATTERN}')"
TIME_ZONE_CEL = (  # getFullYear fails for a zone that the API server does not know, and so does the rule
    "!self.timeZone.contains(':') && self.timeZone != 'Local'"
    " && timestamp('2000-01-01T00:00:00Z').getFullYear(self.timeZone) > 0"
)
HTTP_URL_CEL = (
    "!has(self.http)"
    " || isURL(self.http) && url(self.http).getScheme() in ['http', 'https'] && url(self.http).getHostname() != ''"
)


def is_postgres_own(schema: str) -> bool:
    """Return whether a schema is one of Postgres' own, in which nobody else may keep anything."""
    return schema.startswith("pg_") or schema == "information_schema"


def is_cron(text: str) -> bool:
    """Return whether it is a cron expression of five fields; CronSim knows one with seconds too, which we do not."""
    if re.fullmatch(CRON_PATTERN, text) is None:
        return False
    try:
        CronSim(text, dt.datetime.fromtimestamp(0, dt.UTC))
    except CronSimError:
        return False
    return True


def is_time_zone(name: str) -> bool:
    """Return whether there is such a time zone."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def is_http_url(text: str) -> bool:
    """Return whether it is a URL of HTTP or HTTPS with a host."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and text.isprintable() and " " not in text
