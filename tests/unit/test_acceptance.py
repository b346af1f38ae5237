"""The acceptance table is complete, its page is current, and there is one way for a test to decide a row."""

from __future__ import annotations

import ast
import re

import pytest
from tests.acceptance.table import DOCS, ROOT, TIERS, Decider, Row, as_markdown, deciders, judge, rows

NUMBERS = [f"A{number:02}" for number in range(1, 51)]
ROW = Row("A01", "a feature", "what must be seen")
TEST = Decider("tests/unit/test_x.py", "test_it", ("A01",))


def test_the_table_has_every_row_once_and_in_order() -> None:
    assert [row.number for row in rows()] == NUMBERS
    assert all(row.feature and row.must_be_seen for row in rows())


def test_every_row_has_a_test() -> None:
    decided = {number for one in deciders() for number in one.numbers}
    assert [number for number in NUMBERS if number not in decided] == []
    assert decided <= set(NUMBERS)


def test_a_number_stands_in_a_marker_above_a_test_and_nowhere_else() -> None:
    files = [path for tier in TIERS for path in (ROOT / "tests" / tier).glob("**/*.py")]
    nodes = [node for path in files for node in ast.walk(ast.parse(path.read_text()))]
    marks = [node for node in nodes if isinstance(node, ast.Attribute) and node.attr == "acceptance"]
    assert len(marks) == sum(len(one.numbers) for one in deciders()), "a marker that is no decorator of a test function"
    names = [node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    rows_of = {one.name: one.numbers for one in deciders()}
    for name in names:
        number = re.match(r"test_a(\d\d)_", name)
        assert number is None or f"A{number[1]}" in rows_of.get(name, ()), name


def test_the_page_is_the_tables() -> None:
    assert DOCS.read_text() == as_markdown(), "run: scripts/acceptance --docs"


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [
        ([], "not run"),
        (["passed"], "pass"),
        (["passed", "skipped"], "skipped"),
        (["passed", "skipped", "failed"], "fail"),
    ],
)
def test_a_row_passes_when_all_cases_of_its_tests_have(outcomes: list[str], verdict: str) -> None:
    cases = [(f"{TEST.node}[{number}]", outcome) for number, outcome in enumerate(outcomes)]
    assert judge([ROW], [TEST], [*cases, ("tests/unit/test_x.py::test_other", "failed")])[0].verdict == verdict


def test_a_row_does_not_pass_while_one_of_its_tests_has_not_run() -> None:
    other = Decider("tests/e2e/test_y.py", "test_that", ("A01", "A02"))
    (one,) = judge([ROW], [TEST, other], [(TEST.node, "passed")])
    assert (one.verdict, one.tiers) == ("not run", ["unit", "e2e"])
    assert judge([ROW], [], [])[0].verdict == "missing"
