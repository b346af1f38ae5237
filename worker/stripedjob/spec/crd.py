"""The CustomResourceDefinition, made from the model: structural schema, CEL rules, columns, subresources, status."""

import ast
import itertools
from importlib.resources import files
from typing import Any

import yaml

from stripedjob.spec import model
from stripedjob.spec import parts as parts_module
from stripedjob.spec.model import GROUP, KIND, NAME_LENGTH_MAX, NAME_PATTERN, PLURAL, VERSION, Spec
from stripedjob.spec.rules import RULES

ROOT_RULES = {
    f"self.metadata.name.matches('{NAME_PATTERN}')": "metadata.name: must be of a-z, 0-9 and -",
    f"size(self.metadata.name) <= {NAME_LENGTH_MAX}": "metadata.name: must have at most 47 characters, so that the "
    "names of what is made of it fit",
    "has(self.spec.jobType) == has(oldSelf.spec.jobType)"
    " && (!has(self.spec.jobType) || self.spec.jobType == oldSelf.spec.jobType)": "spec.jobType: cannot be changed, "
    "since it names the pool; make another StripedJob",
    "has(self.spec.pool.secretRef)": "spec.pool.secretRef: is missing; name the Secret that holds the Postgres URL",
    "self.spec.lock.backend != 'Redis' || has(self.spec.lock.secretRef)": "spec.lock.secretRef: is missing; name the "
    "Secret that holds the Redis URL, or set spec.lock.backend: Postgres",
}  # of a cluster alone; the others are in rules.py
COLUMNS = (
    ("Type", "string", ".status.jobType"),
    ("Strategy", "string", ".spec.strategy"),
    ("Lock", "string", ".spec.lock.backend"),
    ("Workers", "integer", ".status.replicas"),
    ("Limit", "integer", ".spec.scheduleLimit"),
    ("Pending", "integer", ".status.pool.pending"),
    ("In-Flight", "integer", ".status.pool.inFlight"),
    ("Dead", "integer", ".status.pool.dead"),
    ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status'),
    ("Age", "date", ".metadata.creationTimestamp"),
)
SCALE = {
    "specReplicasPath": ".spec.replicas",
    "statusReplicasPath": ".status.replicas",
    "labelSelectorPath": ".status.selector",
}
KEPT = {"type", "description", "default", "enum", "pattern", "minimum", "maximum"} | {
    *("minLength", "maxLength", "minItems", "maxItems")
}


def crd() -> dict[str, Any]:
    """Return the CustomResourceDefinition as plain data."""
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [{"name": name, "type": kind, "jsonPath": path} for name, kind, path in COLUMNS],
        "schema": {"openAPIV3Schema": _resource_schema()},
        "subresources": {"status": {}, "scale": SCALE},
    }
    names = {"kind": KIND, "listKind": f"{KIND}List", "plural": PLURAL, "singular": KIND.lower()}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": names | {"shortNames": ["sj"], "categories": ["all", "striped"]},
            "scope": "Namespaced",
            "versions": [version],
        },
    }


def crd_yaml() -> str:
    """Return the CustomResourceDefinition as the YAML that is checked in."""
    return yaml.dump(crd(), Dumper=_Whole, sort_keys=False, width=120, allow_unicode=True)


class _Whole(yaml.SafeDumper):
    """Writes what occurs twice twice: anchors are not for readers, nor for every reader of YAML."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - PyYAML's
        return True


def _resource_schema() -> dict[str, Any]:
    whole = Spec.model_json_schema(by_alias=True)
    described = _described(whole["$defs"] | {Spec.__name__: whole})
    spec = _structural(described[Spec.__name__], described)
    spec["description"] = "What the user wants."
    resource: dict[str, Any] = {
        "type": "object",
        "description": "A job type, its limit, its lock backend and its handler.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": _status_schema(),
        },
        "x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in ROOT_RULES.items()],
    }
    for rule in RULES:
        place = resource
        for part in rule.at:
            place = place["properties"][part]
        validation = {"rule": rule.cel, "message": f"{rule.field}: {rule.message}"}
        place.setdefault("x-kubernetes-validations", []).append(validation)
    return resource


def _described(parts: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Add the text under each field of the model to its schema."""
    sources = [(files("stripedjob.spec") / name).read_text(encoding="utf-8") for name in ("parts.py", "model.py")]
    for node in ast.parse("\n".join(sources)).body:
        if not isinstance(node, ast.ClassDef) or node.name not in parts:
            continue
        for field, text in itertools.pairwise(node.body):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(description))):
                    alias = (
                        getattr(model if hasattr(model, node.name) else parts_module, node.name)
                        .model_fields[name]
                        .alias
                        or name
                    )
                    parts[node.name]["properties"][alias]["description"] = description
    return parts


def _structural(schema: dict[str, Any], parts: dict[str, Any]) -> dict[str, Any]:
    """Turn pydantic's JSON schema into a structural one: no references, no null, no title."""
    merged = dict(schema)
    if "anyOf" in merged:  # X or None: an optional X
        (one,) = (kind for kind in merged.pop("anyOf") if kind.get("type") != "null")
        merged = one | merged
    if "$ref" in merged:
        merged = parts[merged.pop("$ref").rpartition("/")[2]] | merged
    if merged.get("default", ...) is None:
        del merged["default"]
    if isinstance(merged.get("default"), dict):
        # Whole: the API server checks a default against the rules before it fills in the defaults of its fields.
        merged["default"] = {name: value for name, value in merged["default"].items() if value is not None}
    result = {key: value for key, value in merged.items() if key in KEPT}
    if merged.get("type") == "integer":
        result["format"] = "int32"
    if merged.get("additionalProperties") is True:
        result["x-kubernetes-preserve-unknown-fields"] = True
    if "items" in merged:
        result["items"] = _structural(merged["items"], parts)
    if "properties" in merged:
        result["properties"] = {name: _structural(one, parts) for name, one in merged["properties"].items()}
        if merged.get("required"):
            result["required"] = merged["required"]
    return result


def _status_schema() -> dict[str, Any]:
    def counts(*names: str) -> dict[str, Any]:
        return {"type": "object", "properties": {name: {"type": "integer", "format": "int64"} for name in names}}

    text = {"type": "string"}
    condition = {
        "type": "object",
        "required": ["type", "status", "lastTransitionTime", "reason", "message"],
        "properties": {
            "type": text,
            "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
            "observedGeneration": {"type": "integer", "format": "int64"},
            "lastTransitionTime": {"type": "string", "format": "date-time"},
            "reason": text,
            "message": text,
        },
    }
    return {
        "type": "object",
        "description": "What the operator sees.",
        "properties": {
            "observedGeneration": {"type": "integer", "format": "int64"},
            "jobType": text,
            "conditions": {
                "type": "array",
                "items": condition,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
            },
            "workers": counts("desired", "ready", "working"),
            "pool": counts("pending", "delayed", "inFlight", "held", "dead", "resources"),
            "replicas": {"type": "integer", "format": "int32"},
            "selector": text,
            "ratePerSecond": {"type": "number"},
            "lastScheduleTime": {"type": "string", "format": "date-time"},
        },
    }
