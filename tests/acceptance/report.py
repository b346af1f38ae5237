"""A pytest plugin: `--acceptance-report FILE` writes down how the tests went that decide rows of the acceptance table.

One line of JSON a test: {"test": node id, "numbers": [...], "outcome": passed | failed | skipped}. Lines are appended,
so that several runs can write one report. `--row A34` runs only the tests that decide this row.
"""

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

MARKER = "acceptance"
WORST_FIRST = ("failed", "skipped", "passed")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer the options."""
    group = parser.getgroup("acceptance table")
    group.addoption(
        "--acceptance-report", type=Path, help="append the outcomes of tests that decide a row to this file"
    )
    group.addoption("--row", action="append", default=[], help="run only the tests that decide this row, such as A34")


def pytest_configure(config: pytest.Config) -> None:
    """Begin to write, where asked to."""
    path = config.getoption("--acceptance-report")
    if path is not None and not config.getoption("--collect-only"):
        config.pluginmanager.register(Report(path), "acceptance-report")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what decides none of the rows asked for."""
    asked = set(config.getoption("--row"))
    if asked:
        others = [item for item in items if asked.isdisjoint(numbers(item))]
        items[:] = [item for item in items if not asked.isdisjoint(numbers(item))]
        config.hook.pytest_deselected(items=others)


def numbers(item: pytest.Item) -> list[str]:
    """Return the rows that a test decides."""
    return sorted({number for mark in item.iter_markers(MARKER) for number in mark.args})


class Report:
    """Writes one line for each test that decides a row, when it is over."""

    def __init__(self, path: Path) -> None:
        """Take where to write."""
        self._path = path.absolute()
        self._phases: dict[str, set[str]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[Any]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Take in how set-up, call and tear-down went; the worst of them is the test's outcome."""
        report = yield
        phases = self._phases.setdefault(item.nodeid, set())
        phases.add(report.outcome)
        if call.when == "teardown" and numbers(item):
            outcome = next(word for word in WORST_FIRST if word in phases)
            line = json.dumps({"test": item.nodeid, "numbers": numbers(item), "outcome": outcome})
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        return report
