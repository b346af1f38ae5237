"""Times that a test takes, to be shown at the end of the run."""

from __future__ import annotations

from collections.abc import Callable

import pytest

KEY = "measured"
Measured = Callable[[str, float], None]


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Measured:
    """Take a time in seconds, and what took it."""
    return lambda what, seconds: request.node.user_properties.append((KEY, f"{what} {seconds:.1f} s"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what tests have taken; with their reports it comes from other processes, too."""
    lines = [
        f"{report.location[2]}: {words}"
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "call"
        for key, words in report.user_properties
        if key == KEY
    ]
    if lines:
        terminalreporter.section("measured")
        terminalreporter.write_line("\n".join(lines))
