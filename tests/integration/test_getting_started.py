"""docs/getting-started.md is done step by step, with the built wheel, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE

from tests.support.wheel import ROOT, unpacked

PAGE = ROOT / "docs" / "getting-started.md"
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


def steps() -> list[Step]:
    page = PAGE.read_text().replace("<!-- not run: the test has built the wheel -->\n```sh", "```skipped")
    found = []
    for match in STEP.finditer("\n" + page):
        name = re.search(r"`([\w.]+)`:$", match["before"])
        found.append(Step(match["kind"], match["text"], name[1] if name else None))
    return found


def plain(text: str) -> str:
    """Leave out what differs from run to run."""
    return re.sub(r"\d+", "#", text)


def test_each_step_says_what_the_page_says(tmp_path: Path) -> None:
    package, folder, programs = unpacked(tmp_path / "wheel"), tmp_path / "empty", tmp_path / "bin"
    folder.mkdir()
    programs.mkdir()
    for name, text in PROGRAMS.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    env = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": f"{package}"}
    said, kinds = "", set()
    for step in steps():
        kinds.add(step.kind)
        if step.file:
            (folder / step.file).write_text(step.text)
        elif step.kind == "sh":
            command = ["sh", "-ec", f"exec 2>&1\n{step.text}"]
            done = subprocess.run(command, cwd=folder, env=env, stdout=PIPE, text=True, timeout=120, check=False)
            said = done.stdout
            assert done.returncode == 0, said
        elif step.kind == "text":
            missing = [line for line in step.text.splitlines() if plain(line) not in plain(said)]
            assert not missing, said
    assert kinds == {"skipped", "python", "yaml", "csv", "sh", "text"}
    where = subprocess.run(
        [programs / "python", "-P", "-c", "import stripedjob; print(stripedjob.__file__)"],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert where.stdout.startswith(str(package))
