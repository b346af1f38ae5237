"""StripedJobs made from the CRD's own schema: for each of its constraints one that breaks it, for each bound one at it.

What a rule in CEL forbids cannot be made up: `BREAKS` has an example for each, and a test fails for a rule without one.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stripedjob.spec.crd import crd

Schema = dict[str, Any]
Path = tuple[str | int, ...]
SECRET = {"name": "databases", "key": "url"}
WRONG_TYPE = {"string": 7, "integer": "seven", "boolean": "yes", "object": 7, "array": 7}
CRON = {"cron": "* * * * *"}
BREAKS: dict[str, Schema] = {  # the message of a rule: what of the spec breaks it; None takes a field away
    "spec.handler: give exactly one of": {"handler": {"exec": ["true"]}},
    "spec.handler.per: Resource": {"handler": {"python": None, "exec": ["true"], "per": "Resource"}},
    "spec.handler.transaction: true": {"handler": {"python": None, "exec": ["true"], "transaction": True}},
    "spec.handler.around: is for": {"handler": {"python": None, "exec": ["true"], "around": "a:b"}},
    "spec.handler.http: must be": {"handler": {"python": None, "http": "ftp://example.com"}},
    "spec.pool.schema: must not begin with": {"pool": {"secretRef": dict(SECRET), "schema": "pg_striped"}},
    "spec.pool.schema: must not be longer": {"pool": {"secretRef": dict(SECRET), "schema": "ä" * 32}},
    "spec.schedule.cron: must be": {"schedule": {"cron": "61 * * * *"}},
    "spec.schedule.timeZone: there is no such": {"schedule": CRON | {"timeZone": "Europe/Atlantis"}},
    "spec.minWorkers: must not be above": {"minWorkers": 3},
    "spec.replicas: must not be above": {"replicas": 3},
    "spec.throttle: goes with strategy Throttled": {"throttle": {}},
    "spec.throttle: strategy Throttled needs": {"strategy": "Throttled"},
    "spec.drainSeconds: must be below": {"template": {"spec": {"terminationGracePeriodSeconds": 60}}},
    "spec.retry.backoffSeconds: must not be above": {"retry": {"backoffSeconds": 601}},
    "spec.pool.secretRef: is missing": {"pool": {"secretRef": None}},
    "spec.lock.secretRef: is missing": {"lock": {"secretRef": None}},
}
OTHERWISE = {  # rules that a spec alone does not break; test_schema.py has a test for each
    "metadata.name: must be of",
    "metadata.name: must have at most",
    "spec.jobType: cannot be changed",
}
IN_A_CLUSTER_ALONE = (
    "spec.pool.secretRef: is missing",
    "spec.lock.secretRef: is missing",
)  # `run` has options for them
SAMPLES: dict[str, Any] = {  # good values for fields whose pattern is not met by a text that is made up
    "spec.handler.python": "pkg.mod:Class.method",
    "spec.handler.around": "pkg.mod:Class.method",
    "spec.handler.http": "https://user@example.com:8443/path?q=1",
    "spec.handler.exec": ["sh", "-c", "exit 0"],
    "spec.schedule.cron": "*/5 0-6,12 l jan-MAR mon#2",
    "spec.schedule.timeZone": "America/Argentina/Buenos_Aires",
    "spec.pool.schema": 'Größe "a.b" $$ 100%',
    "spec.pool.secretRef.name": "a.b-c",
    "spec.pool.secretRef.key": "URL_of.it",
    "spec.pool.operatorSecretRef.name": "a.b-c",
    "spec.pool.operatorSecretRef.key": "URL_of.it",
    "spec.jobType": "a" * 63,
}


@dataclass(frozen=True)
class Example:
    """`field`: what the message has to name. `because`: the constraint."""

    field: str
    because: str
    job: Schema
    in_a_cluster_alone: bool = False

    def __str__(self) -> str:
        return f"{self.field} {self.because}"


def base(name: str = "a") -> Schema:
    return {
        "apiVersion": "striped.dev/v1alpha1",
        "kind": "StripedJob",
        "metadata": {"name": name},
        "spec": {
            "handler": {"python": "a:b"},
            "pool": {"secretRef": dict(SECRET)},
            "lock": {"secretRef": dict(SECRET)},
        },
    }


def schema() -> Schema:
    return dict(crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"])


def rules(one: Schema | None = None) -> Iterator[str]:
    """Yield the messages of all rules in CEL."""
    one = schema() if one is None else one
    yield from (rule["message"] for rule in one.get("x-kubernetes-validations", []))
    for part in one.get("properties", {}).values():
        yield from rules(part)


def laid(spec: Schema, over: Schema) -> Schema:
    """Lay `over` on a spec; None takes a field away."""
    made = copy.deepcopy(spec)
    for name, value in over.items():
        if value is None:
            made.pop(name, None)
        elif isinstance(value, dict) and isinstance(made.get(name), dict):
            made[name] = laid(made[name], value)
        else:
            made[name] = value
    return made


def with_spec(over: Schema) -> Schema:
    job = base()
    return job | {"spec": laid(job["spec"], over)}


def with_value(path: Path, value: Any) -> Schema:
    """Return a job that has this value there, and all that the value's neighbours need."""
    job = base()
    spec: Any = job
    for part in path[:-1]:
        if part == "throttle":
            spec["strategy"] = "Throttled"
        if part == "schedule":
            spec.setdefault("schedule", dict(CRON))
        if isinstance(part, str):
            spec = spec.setdefault(part, {})
        else:
            raise TypeError(path)
    if path[:2] == ("spec", "handler") and path[-1] in {"exec", "http"}:
        del spec["python"]
    spec[path[-1]] = value
    if str(path[-2:][0]).endswith("ecretRef"):
        spec |= {name: text for name, text in SECRET.items() if name not in spec}
    return job


def _bad_values(one: Schema) -> Iterator[tuple[str, Any]]:
    yield "type", WRONG_TYPE[one["type"]]
    if "enum" in one:
        yield "enum", "Nosuch"
    if "minimum" in one:
        yield "minimum", one["minimum"] - 1
    if "maximum" in one:
        yield "maximum", one["maximum"] + 1
    if one.get("minLength"):
        yield "minLength", "a" * (one["minLength"] - 1)
    if "maxLength" in one:
        yield "maxLength", "a" * (one["maxLength"] + 1)
    if "pattern" in one:
        yield "pattern", "No!\tsuch"
    if "minItems" in one:
        yield "minItems", ["a"] * (one["minItems"] - 1)
    if "maxItems" in one:
        yield "maxItems", ["a"] * (one["maxItems"] + 1)


def _walk(path: Path, one: Schema) -> Iterator[tuple[Path, Schema]]:
    yield path, one
    for name, part in one.get("properties", {}).items():
        yield from _walk((*path, name), part)


def bad() -> Iterator[Example]:
    """Break every constraint once."""
    spec = schema()["properties"]["spec"]
    for path, one in _walk(("spec",), spec):
        field = ".".join(map(str, path))
        for because, value in _bad_values(one):
            yield Example(field, because, with_value(path, value))
        for because, value in _bad_values(one["items"]) if "items" in one else ():
            yield Example(f"{field}[0]", because, with_value(path, [value]))
        for name in one.get("required", ()):
            whole = with_value((*path, name), None) if path != ("spec",) else base()
            inner: Any = whole
            for part in path:
                inner = inner[part]
            del inner[name]
            yield Example(f"{field}.{name}", "required", whole)
        if "properties" in one and not one.get("x-kubernetes-preserve-unknown-fields"):
            yield Example(f"{field}.nosuch", "unknown", with_value((*path, "nosuch"), 1))
    for message, over in BREAKS.items():
        yield Example(message.partition(":")[0], message, with_spec(over), message in IN_A_CLUSTER_ALONE)


def good() -> Iterator[Example]:
    """Yield jobs at every bound and with every enumerated value: what a bound forbids, but for one."""
    wide = {"scheduleLimit": 10_000, "retry": {"backoffSecondsMax": 31_536_000}}
    grace = ("spec", "template", "spec", "terminationGracePeriodSeconds")
    for path, one in _walk(("spec",), schema()["properties"]["spec"]):
        field = ".".join(map(str, path))
        bounds = {str(one[name]): one[name] for name in ("minimum", "maximum") if name in one}
        values = bounds | {value: value for value in one.get("enum", ())}
        if field in SAMPLES:
            values["sample"] = SAMPLES[field]
        for because, value in values.items():
            room = wide if field in {"spec.minWorkers", "spec.replicas", "spec.retry.backoffSeconds"} else {}
            if path == grace:
                room = {"drainSeconds": 0}
                value = max(1, value)  # noqa: PLW2901 - drainSeconds is below it
            if field == "spec.retry.backoffSecondsMax":
                room = {"retry": {"backoffSeconds": 0}}
            if value == "Throttled":
                room = {"throttle": {}}
            job = with_value(path, value)
            yield Example(field, because, job | {"spec": laid(room, job["spec"])})
