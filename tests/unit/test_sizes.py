"""What keeps the code easy to read and right: short files, short functions, SQL that fits a screen and any schema."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILE_LINES_MAX = 300
FUNCTION_LINES_MAX = 50
COLUMNS_MAX = 120
CODE = sorted([*ROOT.glob("worker/**/*.py"), *ROOT.glob("operator/**/*.py")])
SQL = sorted(ROOT.glob("worker/**/*.sql"))


@pytest.mark.parametrize("file", [*CODE, *SQL], ids=lambda file: str(file.relative_to(ROOT)))
def test_a_file_is_short(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= FILE_LINES_MAX


@pytest.mark.parametrize("file", CODE, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_function_is_short(file: Path) -> None:
    functions = [
        node
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert [one.name for one in functions if (one.end_lineno or 0) - one.lineno >= FUNCTION_LINES_MAX] == []


@pytest.mark.parametrize("file", SQL, ids=lambda file: str(file.relative_to(ROOT)))
def test_sql_fits(file: Path) -> None:
    lines = file.read_text().splitlines()
    assert [number for number, line in enumerate(lines, 1) if len(line) > COLUMNS_MAX] == []


@pytest.mark.parametrize("file", SQL, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_text_that_names_the_schema_begins_with_it(file: Path) -> None:
    """Else a schema with a quote in its name would end the text: for_schema() quotes what begins so."""
    texts = re.findall(r"'((?:[^']|'')*)'", re.sub(r"--[^\n]*", "", file.read_text()))
    assert [text for text in texts if "@extschema@" in text[1:]] == []


@pytest.mark.parametrize("file", SQL, ids=lambda file: str(file.relative_to(ROOT)))
def test_sql_has_no_backslash(file: Path) -> None:
    """What it says in a text depends on the caller's standard_conforming_strings."""
    assert "\\" not in re.sub(r"--[^\n]*", "", file.read_text())
