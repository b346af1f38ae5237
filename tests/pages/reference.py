"""docs/reference.md: each field of a StripedJob with its type, default and bound, and each rule that crosses fields.

Made of the CustomResourceDefinition, which is made of the model; `scripts/reference` writes it, a test compares.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stripedjob.spec.crd import crd
from stripedjob.spec.model import API_VERSION, KIND

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).parents[2] / "docs" / "reference.md"
HEAD = f"""# Reference of the StripedJob

Every field of `apiVersion: {API_VERSION}`, `kind: {KIND}`. This page is made from the model by
`scripts/reference`; `stripedjob validate` checks a file against the same model, and names the line, the field, the
cause and the way out.

| field | type | default | bounds | what |
|---|---|---|---|---|
"""
RULES = """
## Rules that cross fields

The API server keeps them too, as CEL rules of the StripedJob resource.

"""


def page() -> str:
    """Return the page's text."""
    schema = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    rows = list(_rows("spec", schema["properties"]["spec"]))
    rules = sorted(_rules(schema))
    return HEAD + "\n".join(rows) + "\n" + RULES + "\n".join(f"- {rule}" for rule in rules) + "\n"


def _rows(path: str, schema: dict[str, Any]) -> Iterator[str]:
    required = schema.get("required", [])
    for name, field in schema.get("properties", {}).items():
        where = f"{path}.{name}"
        default = "required" if name in required else _code(field["default"]) if "default" in field else ""
        if isinstance(field.get("default"), dict):
            default = ""  # of its parts
        yield f"| `{where}` | {_type(field)} | {default} | {_bounds(field)} | {_text(field)} |"
        yield from _rows(where, field)
        if field.get("items", {}).get("properties"):
            yield from _rows(f"{where}[]", field["items"])


def _type(field: dict[str, Any]) -> str:
    if "enum" in field:
        return " or ".join(_code(value) for value in field["enum"])
    if field.get("type") == "array":
        return f"list of {field['items'].get('type', 'values')}s"
    return str(field.get("type", "any"))


def _bounds(field: dict[str, Any]) -> str:
    words = []
    for key, sign in (("minimum", "≥"), ("maximum", "≤")):
        if key in field:
            words.append(f"{sign} {field[key]:,}")
    for key, words_of in (("minLength", "≥ {} characters"), ("maxLength", "≤ {} characters")):
        if key in field:
            words.append(words_of.format(field[key]))
    for key, words_of in (("minItems", "≥ {} items"), ("maxItems", "≤ {} items")):
        if key in field:
            words.append(words_of.format(field[key]))
    if "pattern" in field:
        words.append(_code(field["pattern"]))
    return ", ".join(words)


def _rules(schema: dict[str, Any]) -> Iterator[str]:
    for rule in schema.get("x-kubernetes-validations", []):
        yield _escaped(rule["message"])
    for field in schema.get("properties", {}).values():
        yield from _rules(field)


def _text(field: dict[str, Any]) -> str:
    return _escaped(" ".join(field.get("description", "").split()))


def _code(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{_escaped(text)}`"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page())
