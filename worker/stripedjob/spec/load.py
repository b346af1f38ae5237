"""Reads StripedJob files, and says of every mistake in them where it is, what it is, and the way out.

The lines come from the YAML nodes; the mistakes from the model. All of a file's mistakes are reported at once.
"""

import difflib
import os
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from stripedjob.spec.model import API_VERSION, KIND, StripedJob

Location = tuple[str | int, ...]


class SpecError(Exception):
    """A StripedJob that cannot be used; the message lists its mistakes, one a line."""


def load(path: str | os.PathLike[str]) -> StripedJob:
    """Read one StripedJob from a YAML or JSON file; raises SpecError."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: is not UTF-8 text") from error
    return parse(text, str(path))


def parse(text: str, name: str = "StripedJob") -> StripedJob:
    """Read one StripedJob from YAML or JSON text; `name` stands in the messages. Raises SpecError."""
    try:
        nodes = [node for node in yaml.compose_all(text, yaml.SafeLoader) if node is not None]
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise SpecError(f"{name}:{line}: is not YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise SpecError(f"{name}: is not YAML: {error}") from error
    jobs = [i for i, document in enumerate(documents) if isinstance(document, dict) and document.get("kind") == KIND]
    if len(jobs) > 1:
        raise SpecError(f"{name}: holds {len(jobs)} StripedJobs; give each a file of its own")
    index = jobs[0] if jobs else 0
    if not documents or not isinstance(documents[index], dict):
        raise SpecError(f"{name}: holds no StripedJob; it begins with apiVersion: {API_VERSION} and kind: {KIND}")
    try:
        return StripedJob.model_validate(documents[index])
    except ValidationError as error:
        raise SpecError("\n".join(_mistakes(error, nodes[index], name))) from error


def check(data: dict[str, Any]) -> StripedJob:
    """Read a StripedJob from plain data, as the API server gives it; raises SpecError."""
    try:
        return StripedJob.model_validate(data)
    except ValidationError as error:
        mistakes = _mistakes(error, yaml.MappingNode("", [], yaml.Mark("", 0, 0, 0, None, 0)), "")
        raise SpecError("; ".join(line.partition(": ")[2] for line in mistakes)) from error


def _mistakes(error: ValidationError, root: yaml.Node, name: str) -> Iterator[str]:
    for one in error.errors():
        if not one["loc"]:  # the rules that cross fields
            for line in str(one["ctx"]["error"]).splitlines():
                field = line.partition(": ")[0]
                yield f"{name}:{_line(root, tuple(field.split('.')))}: {line}"
            continue
        yield f"{name}:{_line(root, one['loc'])}: {_path(one['loc'])}: {_words(one, one['loc'])}"


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
            words = f"{given!r} does not look right; it must match {context['pattern']}"
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


def _line(node: yaml.Node, loc: Location) -> int:
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
    """Give the names of the fields of the model at a location."""
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
