"""What the pages refer to is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", re.sub(r"`[^`\n]*`", "", page.read_text()))
    assert not [link for link in links if "://" not in link and not (page.parent / link).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_tests_that_are_named_exist(page: Path) -> None:
    tests = "\n".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    named = re.findall(r"\btest_\w+(?!\w|\.py)", page.read_text())
    assert not [name for name in named if f"def {name}" not in tests]


def test_messages_of_the_troubleshooting_page_are_said_somewhere() -> None:
    code = "".join(file.read_text() for kind in ("py", "sql") for file in (ROOT / "worker").rglob(f"*.{kind}"))
    joined = re.sub(r'"\s*f?"', "", code)  # of a literal that goes on in the next line
    table = (ROOT / "docs" / "troubleshooting.md").read_text().partition("## A message")[2]
    messages = [cell.split("|")[1] for cell in table.splitlines() if cell.startswith("| `")]
    parts = [part.strip("` ") for cell in messages for part in re.findall(r"``[^|]*?``|`[^`]+`", cell)]
    assert len(parts) > 20
    assert not [part for part in parts if part not in code and part not in joined]
