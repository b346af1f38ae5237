"""Pure: what is wrong with a StripedJob → a line for each mistake: its line in the file, its field and the way out.

Fields come from the model's own error. The rules that cross fields are asked as well, as far as what they look at can
be used, so that nobody fixes a file one mistake at a time.
"""

import difflib
from collections.abc import Iterator
from types import UnionType
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.alias_generators import to_camel

from stripedjob.spec.forms import FUNCTION_PATTERN, SCHEMA_PATTERN, SECRET_KEY_PATTERN, SECRET_NAME_PATTERN
from stripedjob.spec.model import NAME_PATTERN, StripedJob
from stripedjob.spec.rules import certainly_broken

Location = tuple[str | int, ...]
UNUSABLE = object()  # stands for what is wrong in itself: no rule can be asked about it
NAMES = "use a-z, 0-9 and -, with a letter or digit first and last, such as my-job-2"
FORMS = {  # what a pattern of the model means
    FUNCTION_PATTERN: "write package.module:function, such as accounts:apply",
    NAME_PATTERN: NAMES,
    SCHEMA_PATTERN: "use any characters but control characters, such as striped",
    SECRET_NAME_PATTERN: NAMES.replace("and -", "- and .").replace("my-job-2", "my-secret"),
    SECRET_KEY_PATTERN: "use letters, digits and - _ . alone, such as url",
}


def mistakes(error: ValidationError, document: dict[str, Any]) -> list[tuple[Location, str]]:
    """Return the place of each mistake, and `field: what is wrong; the way out`."""
    found = [(one["loc"], f"{_path(one['loc'])}: {_words(one, one['loc'])}") for one in error.errors() if one["loc"]]
    spec = _filled(_defaults(), document.get("spec"))
    for loc, _ in found:
        spec = _without(spec, loc[1:]) if loc[0] == "spec" else spec
    broken = certainly_broken(spec) if isinstance(spec, dict) else []
    told = {loc for loc, _ in found}
    crossing = [(tuple(rule.field.split(".")), f"{rule.field}: {rule.message}") for rule in broken]
    return found + [one for one in crossing if one[0] not in told]


def _defaults() -> dict[str, Any]:
    """Return a spec with all defaults, as plain data; its handler has nothing."""
    smallest = {"spec": {"handler": {"exec": ["true"]}}, "metadata": {"name": "a"}}
    whole = StripedJob.model_validate({"apiVersion": "striped.dev/v1alpha1", "kind": "StripedJob", **smallest})
    spec: dict[str, Any] = whole.model_dump(by_alias=True)["spec"]
    return {**spec, "handler": {**spec["handler"], "exec": None}}


def _filled(defaults: Any, given: Any) -> Any:
    """Return what was given, with the defaults for what was not."""
    if not isinstance(given, dict):
        return given
    known = defaults if isinstance(defaults, dict) else {}
    named = {to_camel(str(name)): value for name, value in given.items()}
    return {**known, **{name: _filled(known.get(name), value) for name, value in named.items()}}


def _without(spec: Any, loc: Location) -> Any:
    """Return the spec with UNUSABLE at a place, or at the nearest above it that is there."""
    if not loc or not isinstance(spec, dict):
        return UNUSABLE
    return {**spec, str(loc[0]): _without(spec.get(str(loc[0])), loc[1:])}


def _words(one: Any, loc: Location) -> str:
    """Say what is wrong and the way out."""
    given, context = one.get("input"), one.get("ctx", {})
    match one["type"]:
        case "missing":
            words = "is missing; add it"
        case "extra_forbidden":
            known = _fields(loc[:-1])
            words = f"there is no such field; {_near(loc[-1], known) or 'known: ' + ', '.join(known)}"
        case "literal_error":
            allowed = str(context["expected"]).replace("'", "").replace(" or ", ", ").split(", ")
            words = f"{given!r} is not one of {', '.join(allowed)}; {_near(given, allowed) or 'choose one'}"
        case "string_pattern_mismatch":
            words = f"{given!r} cannot be used; {FORMS[context['pattern']]}"
        case "string_too_long":
            words = f"is too long: {len(str(given))} characters, at most {context['max_length']}"
        case "string_type" if isinstance(given, bool | int | float):
            words = f"must be text, and YAML reads it as {given!r}; put it in quotes"
        case kind if kind.endswith(("_type", "_parsing", "_from_float")):
            words = f"must be {_kind(kind)}, not {given!r}"
        case _:
            words = f"{given!r} is out of bounds: {one['msg'][0].lower()}{one['msg'][1:]}"
    return words


def _near(given: object, known: list[str]) -> str:
    near = difflib.get_close_matches(str(given), known, 1, 0.5)
    return f"did you mean {near[0]}?" if near else ""


def _kind(error_type: str) -> str:
    word = error_type.removesuffix("_type").removesuffix("_parsing").removesuffix("_from_float")
    return {"int": "a whole number", "string": "text", "bool": "true or false", "dict": "a mapping"}.get(
        word, "a mapping" if word.startswith("model") else f"a {word}"
    )


def _path(loc: Location) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")


def line_of(node: yaml.Node, loc: Location) -> int:
    """Find the line of a field, or of the nearest that is there above it."""
    line = node.start_mark.line + 1
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == part), None)
            if found is None:
                return line
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line


def _fields(loc: Location) -> list[str]:
    """Return the names of the fields of the model at a location."""
    model: type[BaseModel] = StripedJob
    for part in loc:
        field = next((f for name, f in model.model_fields.items() if part in {name, f.alias}), None)
        if field is None:
            return []
        kinds = get_args(field.annotation) if isinstance(field.annotation, UnionType) else (field.annotation,)
        inner = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if not inner:
            return []
        model = inner[0]
    return [field.alias or name for name, field in model.model_fields.items()]


def named(error: ValidationError, document: dict[str, Any], root: yaml.Node, name: str) -> Iterator[str]:
    """Yield the mistakes as `name:line: field: …`, in the order of their lines."""
    placed = [(line_of(root, loc), words) for loc, words in mistakes(error, document)]
    for line, words in sorted(placed, key=lambda one: one[0]):
        yield f"{name}:{line}: {words}"
