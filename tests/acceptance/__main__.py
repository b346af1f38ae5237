"""The command behind scripts/acceptance; its usage stands there."""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.acceptance.table import DOCS, ROOT, Decider, Judgement, as_markdown, deciders, judge, rows


def run(tests: Sequence[Decider], asked: Sequence[str], report: Path) -> None:
    """Run the tests; how they went is in the report. What pytest says goes to stderr."""
    tiers = {one.tier for one in tests}
    chosen = [word for number in asked for word in ("--row", number)] or ["-m", "acceptance", "-n", "auto"]
    command = [str(ROOT / "scripts" / "test"), tiers.pop() if len(tiers) == 1 else "all", *chosen]
    subprocess.run([*command, "--acceptance-report", str(report)], stdout=sys.stderr, check=False)


def read(report: Path) -> list[tuple[str, str]]:
    """Read a report: (node id, outcome)."""
    lines = report.read_text(encoding="utf-8").splitlines() if report.exists() else []
    return [(one["test"], one["outcome"]) for one in map(json.loads, lines)]


def as_json(one: Judgement) -> dict[str, object]:
    """Return a row as plain data."""
    return {
        "number": one.row.number,
        "feature": one.row.feature,
        "pass": one.row.must_be_seen,
        "tiers": one.tiers,
        "tests": [{"test": test.node, "outcomes": list(one.outcomes[test.node])} for test in one.deciders],
        "result": one.verdict,
    }


def as_line(one: Judgement) -> str:
    """Return a row for people."""
    cases = sum(map(len, one.outcomes.values()))
    counts = f"{len(one.deciders)} tests, {cases} cases" if one.deciders else "no test"
    return f"{one.row.number}  {one.verdict:7}  {'+'.join(one.tiers):19}  {counts:18}  {one.row.feature}"


def main() -> None:
    """Print the table; exit 1 unless every row passes."""
    parser = argparse.ArgumentParser(prog="scripts/acceptance")
    parser.add_argument("rows", nargs="*", metavar="ROW", help="these rows only, such as A34")
    parser.add_argument("--json", action="store_true", help="the table as JSON")
    parser.add_argument("--from", dest="report", type=Path, help="judge by this report; run nothing")
    parser.add_argument("--docs", action="store_true", help="write docs/acceptance.md; run nothing")
    options = parser.parse_args()
    if options.docs:
        DOCS.write_text(as_markdown(), encoding="utf-8")
        return
    unknown = set(options.rows) - {row.number for row in rows()}
    if unknown:
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    asked = [row for row in rows() if not options.rows or row.number in options.rows]
    tests = [one for one in deciders() if not options.rows or not set(options.rows).isdisjoint(one.numbers)]
    with tempfile.TemporaryDirectory() as folder:
        report = options.report or Path(folder) / "report"
        if options.report is None and tests:
            run(tests, options.rows, report)
        judged = judge(asked, tests, read(report))
    failing = [one for one in judged if one.verdict != "pass"]
    sys.stdout.write(
        json.dumps([as_json(one) for one in judged], indent=1) + "\n"
        if options.json
        else "".join(as_line(one) + "\n" for one in judged)
        + f"{len(judged) - len(failing)} of {len(judged)} rows pass\n"
    )
    sys.exit(1 if failing else 0)


if __name__ == "__main__":
    main()
