"""Rules that cross fields or that a bound cannot say: once in Python, for files, and once in CEL, for the API server.

A test ties the two. `at` is where the CRD has the rule; its `self` is the object there. The Python side gets the
spec as plain data with all defaults, as the API server sees it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stripedjob.spec.forms import (
    CRON_CEL,
    HTTP_URL_CEL,
    SCHEMA_BYTES_CEL,
    SCHEMA_BYTES_MAX,
    TIME_ZONE_CEL,
    is_cron,
    is_http_url,
    is_postgres_own,
    is_time_zone,
)


@dataclass(frozen=True, slots=True)
class Rule:
    """`field` is what to look at, `message` says what is wrong and the way out; `holds` is false where it is broken."""

    at: tuple[str, ...]
    field: str
    message: str
    cel: str
    holds: Callable[[dict[str, Any]], bool]


def _grace(spec: dict[str, Any]) -> int | None:
    pod = (spec.get("template") or {}).get("spec") or {}
    seconds = pod.get("terminationGracePeriodSeconds")
    return seconds if isinstance(seconds, int) else None


def _handler_kinds(spec: dict[str, Any]) -> int:
    return sum(spec["handler"].get(kind) is not None for kind in ("python", "exec", "http"))


RULES = (
    Rule(
        ("spec", "handler"),
        "spec.handler",
        "give exactly one of python, exec and http",
        "(has(self.python) ? 1 : 0) + (has(self.exec) ? 1 : 0) + (has(self.http) ? 1 : 0) == 1",
        lambda spec: _handler_kinds(spec) == 1,
    ),
    Rule(
        ("spec", "handler"),
        "spec.handler.per",
        "Resource is for python handlers; leave it out with exec and http",
        "self.per == 'Unit' || has(self.python)",
        lambda spec: spec["handler"]["per"] == "Unit" or spec["handler"].get("python") is not None,
    ),
    Rule(
        ("spec", "handler"),
        "spec.handler.transaction",
        "true is for python handlers; leave it out with exec and http",
        "!self.transaction || has(self.python)",
        lambda spec: not spec["handler"]["transaction"] or spec["handler"].get("python") is not None,
    ),
    Rule(
        ("spec", "handler"),
        "spec.handler.around",
        "is for python handlers; leave it out with exec and http",
        "!has(self.around) || has(self.python)",
        lambda spec: spec["handler"].get("around") is None or spec["handler"].get("python") is not None,
    ),
    Rule(
        ("spec", "handler"),
        "spec.handler.http",
        "must be an http:// or https:// URL",
        HTTP_URL_CEL,
        lambda spec: (url := spec["handler"].get("http")) is None or is_http_url(url),
    ),
    Rule(
        ("spec", "pool"),
        "spec.pool.schema",
        "must not begin with pg_, nor be information_schema: these are Postgres' own",
        "!self.schema.startsWith('pg_') && self.schema != 'information_schema'",
        lambda spec: not is_postgres_own(spec["pool"]["schema"]),
    ),
    Rule(
        ("spec", "pool"),
        "spec.pool.schema",
        "must not be longer than 63 bytes in UTF-8",
        SCHEMA_BYTES_CEL,
        lambda spec: len(spec["pool"]["schema"].encode()) <= SCHEMA_BYTES_MAX,
    ),
    Rule(
        ("spec", "schedule"),
        "spec.schedule.cron",
        "must be the five fields of cron (minute, hour, day, month, weekday), such as */5 * * * *",
        CRON_CEL,
        lambda spec: spec.get("schedule") is None or is_cron(spec["schedule"]["cron"]),
    ),
    Rule(
        ("spec", "schedule"),
        "spec.schedule.timeZone",
        "there is no such time zone; use a name such as UTC or Europe/Berlin",
        TIME_ZONE_CEL,
        lambda spec: spec.get("schedule") is None or is_time_zone(spec["schedule"]["timeZone"]),
    ),
    Rule(
        ("spec",),
        "spec.minWorkers",
        "must not be above scheduleLimit",
        "self.minWorkers <= self.scheduleLimit",
        lambda spec: spec["minWorkers"] <= spec["scheduleLimit"],
    ),
    Rule(
        ("spec",),
        "spec.replicas",
        "must not be above scheduleLimit",
        "!has(self.replicas) || self.replicas <= self.scheduleLimit",
        lambda spec: spec.get("replicas") is None or spec["replicas"] <= spec["scheduleLimit"],
    ),
    Rule(
        ("spec",),
        "spec.throttle",
        "goes with strategy Throttled alone; set strategy: Throttled or leave throttle out",
        "!has(self.throttle) || self.strategy == 'Throttled'",
        lambda spec: spec.get("throttle") is None or spec["strategy"] == "Throttled",
    ),
    Rule(
        ("spec",),
        "spec.throttle",
        "strategy Throttled needs its limits; add throttle",
        "self.strategy != 'Throttled' || has(self.throttle)",
        lambda spec: spec["strategy"] != "Throttled" or spec.get("throttle") is not None,
    ),
    Rule(
        ("spec",),
        "spec.drainSeconds",
        "must be below template.spec.terminationGracePeriodSeconds, or the pod is killed while it drains",
        "!has(self.template) || !has(self.template.spec) || !has(self.template.spec.terminationGracePeriodSeconds)"
        " || self.drainSeconds < self.template.spec.terminationGracePeriodSeconds",
        lambda spec: (grace := _grace(spec)) is None or spec["drainSeconds"] < grace,
    ),
    Rule(
        ("spec", "retry"),
        "spec.retry.backoffSeconds",
        "must not be above backoffSecondsMax",
        "self.backoffSeconds <= self.backoffSecondsMax",
        lambda spec: spec["retry"]["backoffSeconds"] <= spec["retry"]["backoffSecondsMax"],
    ),
)


def broken_rules(spec: dict[str, Any]) -> list[Rule]:
    """Return the rules that a spec breaks."""
    return [rule for rule in RULES if not rule.holds(spec)]


def certainly_broken(spec: dict[str, Any]) -> list[Rule]:
    """Return the rules that a spec breaks, of which only some can be asked: what they look at may be anything."""
    return [rule for rule in RULES if _is_certain(rule, spec)]


def _is_certain(rule: Rule, spec: dict[str, Any]) -> bool:
    try:
        return not rule.holds(spec)
    except (AttributeError, KeyError, TypeError):
        return False
