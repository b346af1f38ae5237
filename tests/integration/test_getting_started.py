"""docs/getting-started.md and the README's commands are done step by step, with the built wheel, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE

import psycopg
import pytest
from tests.support.engines import end_engines
from tests.support.wheel import ROOT, unpacked

README, PAGE = ROOT / "README.md", ROOT / "docs" / "getting-started.md"
STEP = re.compile(r"(?P<before>[^\n]*)\n\n```(?P<kind>\w+)\n(?P<text>.*?)```", re.DOTALL)
PROGRAMS = {
    "python": f'#!/bin/sh\nexec {sys.executable} "$@"\n',
    "stripedjob": f'#!/bin/sh\nexec {sys.executable} -P -m stripedjob "$@"\n',
}


@dataclass
class Step:
    kind: str
    text: str
    file: str | None  # that it is the content of


def steps(page: str) -> list[Step]:
    page = page.replace("<!-- not run: the test has built the wheel -->\n```sh", "```skipped")
    found = []
    for match in STEP.finditer("\n" + page):
        name = re.search(r"`([\w.]+)`:$", match["before"])
        found.append(Step(match["kind"], match["text"], name[1] if name else None))
    return found


def plain(text: str) -> str:
    """Leave out what differs from run to run."""
    return re.sub(r"\d+", "#", text)


@dataclass
class Newcomer:
    """An empty folder, and the wheel's programs on the path."""

    folder: Path
    env: dict[str, str]

    def do(self, text: str) -> str:
        """Do a block of commands, of which none may fail; gives what they said.

        Engines have stopped meanwhile, as where a person types, reads or has a coffee.
        """
        end_engines(self.folder / ".stripedjob")
        command = ["sh", "-ec", f"exec 2>&1\n{text}"]
        done = subprocess.run(command, cwd=self.folder, env=self.env, stdout=PIPE, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout
        return done.stdout


@pytest.fixture
def newcomer(tmp_path: Path) -> Newcomer:
    package, folder, programs = unpacked(tmp_path / "wheel"), tmp_path / "empty", tmp_path / "bin"
    folder.mkdir()
    programs.mkdir()
    for name, text in PROGRAMS.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    env = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": f"{package}"}
    there = Newcomer(folder, env)
    assert there.do("python -P -c 'import stripedjob; print(stripedjob.__file__)'").startswith(str(package))
    return there


def test_each_step_says_what_the_page_says(newcomer: Newcomer) -> None:
    said, kinds = "", set()
    for step in steps(PAGE.read_text()):
        kinds.add(step.kind)
        if step.file:
            (newcomer.folder / step.file).write_text(step.text)
        elif step.kind == "sh":
            said = newcomer.do(step.text)
        elif step.kind == "text":
            missing = [line for line in step.text.splitlines() if plain(line) not in plain(said)]
            assert not missing, said
    assert kinds == {"skipped", "python", "yaml", "csv", "sh", "text"}


def test_the_readme_s_commands_work_in_its_order(newcomer: Newcomer) -> None:
    page = README.read_text().partition("## Use it")[2].partition("\n## ")[0]
    said, files = "", []
    for step in steps(page):
        if step.file:
            files.append(step.file)
            (newcomer.folder / step.file).write_text(step.text)
        elif step.kind == "sh":
            said += newcomer.do(re.sub(r"(?m)^stripedjob ui .*", "", step.text))  # which does not end by itself
        else:
            assert step.kind == "sql"
            with psycopg.connect((newcomer.folder / ".stripedjob/postgres/url").read_text()) as conn:
                assert conn.execute(step.text.encode()).fetchone() == (3,)
    assert files == ["job.yaml", "listings.py", "units.csv"]
    for part in (
        "2 units enqueued for listings",
        "listing-8 {'price': 120}",
        "2 units done in ",
        "listing-7 has nothing",
    ):
        assert part in said
