"""A mutation: a small fault put into a copy of the package, and the test that has to find it."""

from __future__ import annotations

import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.forks import FORKS

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "worker"
RUN_SECONDS_MAX = 280
PATIENCE_SECONDS = "30"  # a fault may make a test wait for what never comes, which is an answer
TESTS_FAILED = 1  # pytest's exit code
COUNTS = re.compile(r"(\d+) (failed|error)")


class NoSuchTextError(Exception):
    """The text that the mutation replaces is not there, or is there twice: the code has moved on, and so must it."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """In `file`, under stripedjob, `new` stands for `old`, which is there once; `test` is a node id of pytest."""

    name: str
    file: str
    old: str
    new: str
    test: str

    def mutated(self, package: Path) -> str:
        """Return the text of the file with the mutation; raises NoSuchTextError."""
        text = (package / "stripedjob" / self.file).read_text()
        if text.count(self.old) != 1:
            raise NoSuchTextError(f"{self.name}: {self.file} has {text.count(self.old)} times: {self.old}")
        return text.replace(self.old, self.new)

    def apply(self, package: Path) -> None:
        """Change the copy of the package; raises NoSuchTextError."""
        (package / "stripedjob" / self.file).write_text(self.mutated(package))


def copied(folder: Path) -> Path:
    """Copy the package; returns what PYTHONPATH is to begin with."""
    return Path(shutil.copytree(PACKAGE, folder / "worker", ignore=shutil.ignore_patterns("__pycache__")))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What pytest said of the tests that it was given: how many failed, and how many could not be run."""

    code: int
    failed: int
    errors: int
    output: str

    @property
    def is_caught(self) -> bool:
        """Whether a test failed by itself: a fixture that fails, such as for SQL that is no SQL, proves nothing."""
        return self.code == TESTS_FAILED and self.failed > 0 and self.errors == 0


def judged(tests: list[str], package: Path, postgres_url: str) -> Verdict:
    """Run tests against a copy of the package, in a process of their own."""
    told = package.with_suffix(".log")
    environment = {
        "PYTHONPATH": str(package),
        "STRIPEDJOB_TEST_POSTGRES": postgres_url,
        "STRIPEDJOB_TEST_PATIENCE": PATIENCE_SECONDS,
    }
    process = FORKS.Process(target=_run, args=(tests, told, environment))
    process.start()
    process.join(RUN_SECONDS_MAX)
    if process.exitcode is None:
        process.kill()
        process.join()
    output = told.read_text(errors="replace")
    counts = {word: int(number) for number, word in COUNTS.findall((output.splitlines() or [""])[-1])}
    return Verdict(process.exitcode or 0, counts.get("failed", 0), counts.get("error", 0), output[-4000:])


def _run(tests: list[str], told: Path, environment: dict[str, str]) -> None:
    """Be the process: its modules of ours are those of the copy."""
    os.chdir(ROOT)
    os.environ.update(environment)
    sys.path.insert(0, environment["PYTHONPATH"])
    with told.open("wb") as file:
        for output in (1, 2):
            os.dup2(file.fileno(), output)
    early = "-Wignore:Module already imported:pytest.PytestAssertRewriteWarning"
    sys.exit(pytest.main(["-q", "-x", "--no-header", "-p", "no:cacheprovider", early, *tests]))
