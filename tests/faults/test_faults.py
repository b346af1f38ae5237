"""The short form of `scripts/faults`: every strategy, every kind of fault, every promise."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from tests.faults.main import STRATEGIES
from tests.faults.nemesis import KINDS

ROOT = Path(__file__).parents[2]
SEED = 1
MINUTES = 1.0
PATIENCE_SECONDS = 280


@pytest.fixture(scope="module")
def results() -> list[dict[str, object]]:
    command = [str(ROOT / "scripts" / "faults"), "--minutes", str(MINUTES), "--seed", str(SEED), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert done.stdout, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_promise_is_kept(results: list[dict[str, object]], strategy: str) -> None:
    (result,) = (one for one in results if one["strategy"] == strategy)
    assert result["violations"] == []
    assert result["holds"]


def test_every_kind_of_fault_was_made(results: list[dict[str, object]]) -> None:
    made: Counter[str] = Counter()
    for result in results:
        made.update(result["faults"])  # type: ignore[call-overload]
    not_here = {kind for result in results for kind in result["unsupported"]}  # type: ignore[attr-defined]
    assert {kind for kind in KINDS if not made[kind]} <= not_here
