"""What keeps the code easy to read and right: short files, short functions, SQL that fits a screen and any schema."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILE_LINES_MAX = 300
FUNCTION_LINES_MAX = 50
COLUMNS_MAX = 120
CODE = {
    str(file.relative_to(ROOT)): file.read_text()
    for top in ("worker", "operator")
    for file in ROOT.glob(f"{top}/**/*.py")
}
SQL = {str(file.relative_to(ROOT)): file.read_text() for file in ROOT.glob("worker/**/*.sql")}
WITHOUT_COMMENTS = {file: re.sub(r"--[^\n]*", "", text) for file, text in SQL.items()}


def test_there_is_something_to_look_at() -> None:
    assert len(CODE) > 100
    assert len(SQL) > 20


def test_files_are_short() -> None:
    lines = {file: len(text.splitlines()) for file, text in (CODE | SQL).items()}
    assert {file: count for file, count in lines.items() if count > FILE_LINES_MAX} == {}


def test_functions_are_short() -> None:
    found = [
        f"{file}: {node.name}"
        for file, text in CODE.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= FUNCTION_LINES_MAX
    ]
    assert found == []


def test_sql_fits() -> None:
    found = [
        f"{file}:{number}"
        for file, text in SQL.items()
        for number, line in enumerate(text.splitlines(), 1)
        if len(line) > COLUMNS_MAX
    ]
    assert found == []


def test_a_text_that_names_the_schema_begins_with_it() -> None:
    """Else a schema with a quote in its name would end the text: for_schema() quotes what begins so."""
    texts = [(file, said) for file, text in WITHOUT_COMMENTS.items() for said in re.findall(r"'((?:[^']|'')*)'", text)]
    assert [(file, said) for file, said in texts if "@extschema@" in said[1:]] == []


def test_sql_has_no_backslash() -> None:
    """What it says in a text depends on the caller's standard_conforming_strings."""
    assert [file for file, text in WITHOUT_COMMENTS.items() if "\\" in text] == []
