"""The order in which routines lock rows: what docs/lock-order.md says is what is seen, and no circle closes."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.isolation.locks import MODES, Use, circle, edges, use_of
from tests.isolation.routines import FIFOS, HALF_OPENS, THROTTLES
from tests.isolation.scenes import busy, busy_half_open
from tests.isolation.specs import Specs
from tests.isolation.world import FIFO, THROTTLED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.isolation.harness import Stage

PAGE = Path(__file__).parents[2] / "docs" / "lock-order.md"
TABLE = re.compile(r"(?<=<!-- observed -->\n).*?(?=<!-- end -->)", re.DOTALL)


@pytest.fixture(scope="module")
def uses(stage: Stage) -> dict[str, Use]:
    """What each routine does, in a job with strict order, in a throttled one, and in one whose breaker is half open."""
    found = {}
    breaks = replace(FIFO, job_type="half open", breaker_failures=1)
    for job, routines, scene in (
        (FIFO, FIFOS, busy),
        (THROTTLED, THROTTLES, busy),
        (breaks, HALF_OPENS, busy_half_open),
    ):
        specs = Specs()
        specs.add(job.job_type, job, scene, holder=[], routine=[])
        for name, step in routines.items():
            found[f"{name}, {job.job_type}"] = use_of(stage, specs[0], step)
    return found


def test_no_circle_closes(uses: dict[str, Use]) -> None:
    assert "\n".join(map(str, circle(edges(uses)))) == ""


def test_the_page_says_what_is_seen(uses: dict[str, Use], request: pytest.FixtureRequest) -> None:
    page, seen = PAGE.read_text(), "\n".join(rows(uses)) + "\n"
    if request.config.getoption("--renew"):
        PAGE.write_text(TABLE.sub(lambda _: seen, page))
    found = TABLE.search(page)
    assert found
    assert found[0].splitlines() == seen.splitlines()


def rows(uses: dict[str, Use]) -> Iterator[str]:
    """Yield the page's table; a routine that does the same in both jobs has one row."""
    yield "| routine | locks, in this order |"
    yield "|---|---|"
    shown: dict[tuple[str, str], list[str]] = {}
    for name, use in uses.items():
        routine, job = name.split(", ")
        shown.setdefault((routine, words(use)), []).append(job)
    for (routine, what), jobs in sorted(shown.items()):
        yield f"| {routine}{'' if len(jobs) > 1 else f', {jobs[0]}'} | {what} |"


def words(use: Use) -> str:
    """Say which tables a routine locks rows of, the strongest mode, and `skip` where it waits for none of them."""
    said = []
    for table in use.tables():
        modes = [mode for row, mode in use.modes.items() if row.table == table]
        mode = min(modes, key=list(MODES).index, default="")
        waits = any(row.table == table for row in use.waits)
        said.append(f"{table} ({mode or 'reads'}{'' if waits else ', skip'})")
    return " → ".join(said) or "none"
