"""What pytest writes down of tests that decide rows of the acceptance table."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.acceptance.table import ROOT

if TYPE_CHECKING:
    from pathlib import Path

TESTS = """
import pytest

@pytest.fixture
def breaks_afterwards():
    yield
    raise RuntimeError

@pytest.mark.acceptance("A01")
@pytest.mark.acceptance("A02")
@pytest.mark.parametrize("n", [1, 2])
def test_cases(n):
    assert n == 1

@pytest.mark.acceptance("A02")
def test_that_breaks(breaks_afterwards):
    pass

@pytest.mark.acceptance("A03")
def test_skipped():
    pytest.skip("why")

def test_without_a_row():
    pass
"""


def outcomes(folder: Path, *options: str) -> dict[str, tuple[list[str], str]]:
    (folder / "test_rows.py").write_text(TESTS)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n  acceptance(number)\n")
    report = folder / "report"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-p", "tests.acceptance.report", "-p", "no:valkey", *options]
    command += [
        "--rootdir",
        str(folder),
        "-c",
        str(folder / "pytest.ini"),
        f"--acceptance-report={report}",
        str(folder),
    ]
    subprocess.run(command, cwd=ROOT, check=False, capture_output=True)
    lines = [json.loads(line) for line in report.read_text().splitlines()]
    return {line["test"].partition("::")[2]: (line["numbers"], line["outcome"]) for line in lines}


def test_the_worst_of_set_up_call_and_tear_down_is_written_for_each_case(tmp_path: Path) -> None:
    everything = {
        "test_cases[1]": (["A01", "A02"], "passed"),
        "test_cases[2]": (["A01", "A02"], "failed"),
        "test_that_breaks": (["A02"], "failed"),
        "test_skipped": (["A03"], "skipped"),
    }
    assert outcomes(tmp_path) == everything
    assert outcomes(tmp_path, "-n", "2") == everything
    assert outcomes(tmp_path, "--row", "A03") == {"test_skipped": everything["test_skipped"]}
