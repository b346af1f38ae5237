"""Reads the table and finds the tests that decide its rows; judges a run; writes docs/acceptance.md.

Which tests those are is read from their source: the marker is a decorator, nothing else, so that it can be known
without importing clusters and servers. tests/unit/test_acceptance.py sees to it that no other way is used.
"""

import ast
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DOCS = ROOT / "docs" / "acceptance.md"
TIERS = ("unit", "sim", "integration", "cluster", "e2e")

Verdict = Literal["pass", "fail", "skipped", "not run", "missing"]


@dataclass(frozen=True, slots=True)
class Row:
    """One feature, and what must be seen of it."""

    number: str
    feature: str
    must_be_seen: str


@dataclass(frozen=True, slots=True, order=True)
class Decider:
    """A test function that decides rows. `path` from the root of the repository, as in pytest's node ids."""

    path: str
    name: str
    numbers: tuple[str, ...]

    @property
    def tier(self) -> str:
        """The folder it stands in."""
        return Path(self.path).parts[1]

    @property
    def node(self) -> str:
        """What pytest calls it, without the parameters."""
        return f"{self.path}::{self.name}"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A row with its tests, and for each of them the outcomes of a run: one a set of parameters."""

    row: Row
    deciders: tuple[Decider, ...]
    outcomes: Mapping[str, Sequence[str]]

    @property
    def verdict(self) -> Verdict:
        """`pass`, where there are tests, all of them have run and all have passed."""
        found = {outcome for outcomes in self.outcomes.values() for outcome in outcomes}
        if not self.deciders:
            return "missing"
        if "failed" in found:
            return "fail"
        if not all(self.outcomes.values()):
            return "not run"
        return "skipped" if "skipped" in found else "pass"

    @property
    def tiers(self) -> list[str]:
        """The tiers of its tests, from the quick to the expensive ones."""
        there = {decider.tier for decider in self.deciders}
        return [tier for tier in TIERS if tier in there]


def rows() -> list[Row]:
    """Read the table."""
    read = yaml.safe_load((HERE / "table.yaml").read_text(encoding="utf-8"))
    return [Row(one["number"], one["feature"], one["pass"]) for one in read]


@functools.cache
def deciders() -> tuple[Decider, ...]:
    """Find the tests that decide rows, in every tier."""
    files = (path for tier in TIERS for path in (ROOT / "tests" / tier).glob("test_*.py"))
    return tuple(sorted(one for path in files for one in _in(path)))


def _in(path: Path) -> Iterator[Decider]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            numbers = tuple(sorted(number for one in node.decorator_list for number in _numbers(one)))
            if numbers:
                yield Decider(str(path.relative_to(ROOT)), node.name, numbers)


def _numbers(decorator: ast.expr) -> list[str]:
    if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.acceptance":
        return [str(one.value) for one in decorator.args if isinstance(one, ast.Constant)]
    return []


def judge(all_rows: Sequence[Row], tests: Sequence[Decider], outcomes: Sequence[tuple[str, str]]) -> list[Judgement]:
    """Say of each row how its tests went; `outcomes` are (node id with parameters, outcome)."""
    by_node: dict[str, list[str]] = {one.node: [] for one in tests}
    for node, outcome in outcomes:
        by_node.setdefault(node.partition("[")[0], []).append(outcome)
    judged = []
    for row in all_rows:
        its = tuple(one for one in tests if row.number in one.numbers)
        judged.append(Judgement(row, its, {one.node: by_node[one.node] for one in its}))
    return judged


def as_markdown() -> str:
    """Return the text of docs/acceptance.md."""
    head = (
        "# Acceptance table\n\n"
        "What must be seen of each feature, and the tests that decide it. `scripts/acceptance` runs them and prints\n"
        "the table with their results; `scripts/acceptance A34` does so for one row. This file is made by\n"
        "`scripts/acceptance --docs` from [table.yaml](../tests/acceptance/table.yaml) and the tests' own markers,\n"
        '`@pytest.mark.acceptance("A34")`.\n\n'
        "| # | feature | what must be seen | tier | decided by |\n|---|---|---|---|---|\n"
    )
    return head + "".join(
        f"| {one.row.number} | {one.row.feature} | {one.row.must_be_seen} | {', '.join(one.tiers)} "
        f"| {'<br>'.join(f'[{test.name}](../{test.path})' for test in one.deciders)} |\n"
        for one in judge(rows(), deciders(), [])
    )
