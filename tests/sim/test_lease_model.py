"""The lease protocol as a model, in every interleaving; without any of its guards it must fail. See docs/model.md."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

MODEL = Path(__file__).parent / "model"
RUN_SECONDS_MAX = 850  # seconds do on a machine that has nothing else to do
MEMORY_MB_MAX = 4_000
STEPS_MAX = 10_000  # of one run of the protocol; Spin says so where they are not enough


pytestmark = pytest.mark.timeout(900)


@dataclass(frozen=True)
class Outcome:
    """What Spin found: the property that was violated, or none, and the steps that lead there."""

    violated: str | None
    steps: str


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=RUN_SECONDS_MAX, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout


def explore(where: Path, options: str, *, quickly: bool = False, endless: bool = False) -> Outcome:
    """Try every interleaving until one violates a property; `endless`: runs that never end are looked for instead."""
    folder = shutil.copytree(MODEL, where / "model")
    defines = [f"-D{option}" for option in options.split()]
    run("spin", "-a", *defines, "lease.pml", cwd=folder)
    kind = ["-DNP"] if endless else ["-DSAFETY"]
    optimise = "-O0" if quickly else "-O1"  # -O2 takes longer to compile than it saves
    run("cc", optimise, "-w", "-DNOFAIR", f"-DMEMLIM={MEMORY_MB_MAX}", *kind, "-o", "pan", "pan.c", cwd=folder)
    found = run("./pan", f"-m{STEPS_MAX}", *(["-l"] if endless else []), cwd=folder)
    if "errors: 0" in found:
        assert "Full statespace search" in found, found
        assert "Search not completed" not in found, found
        assert "max search depth too small" not in found, found
        return Outcome(None, "")
    trail = run("spin", "-t", *defines, "lease.pml", cwd=folder)
    place = re.search(r"^spin: (\w+\.pml):(\d+), Error: assertion violated", trail, re.MULTILINE)
    if place is None:
        return Outcome("every run ends", trail)
    line = (MODEL / place[1]).read_text(encoding="utf-8").splitlines()[int(place[2]) - 1]
    return Outcome(line.partition("/*")[2].strip(" */,"), trail.partition("#processes")[0])


@pytest.fixture(autouse=True)
def spin() -> None:
    missing = [name for name in ("spin", "cc") if shutil.which(name) is None]
    if missing and "CI" in os.environ:
        pytest.fail(f"{missing} cannot be found")
    if missing:
        pytest.skip(f"{missing} cannot be found: scripts/test installs them, as root on Debian")


@pytest.mark.parametrize(
    "options",
    [
        pytest.param("FAULTS=2", id="handlers"),
        pytest.param("FAULTS=2 LIMIT=1", id="limit"),
        pytest.param("FAULTS=2 HANDLERS=0 LOCKS=1", id="locks"),
        pytest.param("FAULTS=2 HANDLERS=0 UNITS=2", id="units"),
        pytest.param("FAULTS=2 RESOURCES=1 UNITS=2 LOCKS=1", id="one-resource"),
        pytest.param("FAULTS=2 RESOURCES=1 WORKERS=3", id="three-workers"),
        pytest.param("FAULTS=1 WORKERS=3", id="three-workers-two-resources"),
        pytest.param("FAULTS=1 SPLIT", id="split"),
    ],
)
def test_the_protocol_holds_in_every_interleaving(tmp_path: Path, options: str) -> None:
    outcome = explore(tmp_path, options)
    assert outcome.violated is None, outcome.steps


@pytest.mark.parametrize("options", ["FAULTS=1 LOCKS=1", "FAULTS=2 RESOURCES=1 LOCKS=1"])
def test_every_run_ends(tmp_path: Path, options: str) -> None:
    outcome = explore(tmp_path, options, endless=True)
    assert outcome.violated is None, outcome.steps


EXCLUSION = "two workers never work on one resource"
NO_ORPHAN = "no lease of a worker that has no row"
VALID = "nothing is recorded under a lease that was lost"
NOT_STRANDED = "no unit is stranded"
FENCE = "a fence never comes again, nor goes back"
LIMIT = "the limit holds"
NOT_CALLED_LOST = "what was recorded is not called lost, while its row is there"


@pytest.mark.parametrize(
    ("guard", "options", "violated"),
    [
        ("CLAIM_UNLOCKED", "FAULTS=1 HANDLERS=0", NO_ORPHAN),
        ("NO_SESSION", "FAULTS=1 HANDLERS=0", NOT_STRANDED),
        ("ONE_SNAPSHOT", "FAULTS=0 HANDLERS=0 UNITS=2", "no unit is handed out that was recorded"),
        ("CAP_UNLOCKED", "FAULTS=0 HANDLERS=0 LIMIT=1", LIMIT),
        ("FENCE_IN_STRIPE", "FAULTS=0 HANDLERS=0 UNITS=2", FENCE),
        ("SETTLE_UNLOCKED", "FAULTS=1 HANDLERS=0", NOT_CALLED_LOST),
        ("SETTLE_UNFENCED", "FAULTS=2 HANDLERS=0", VALID),
        ("NO_BATCH", "FAULTS=1 HANDLERS=0", NOT_CALLED_LOST),
        ("COMPLETE_UNFENCED", "FAULTS=2", VALID),
        ("COMPLETE_UNLOCKED", "FAULTS=1", VALID),
        ("RESUME_KEEPS", "FAULTS=1 HANDLERS=0", NOT_STRANDED),
        ("RESUME_UNLOCKED", "FAULTS=1 HANDLERS=0", NOT_STRANDED),
        ("RESUME_UNNUMBERED", "FAULTS=2 HANDLERS=0", EXCLUSION),
        ("RENEW_SILENT", "FAULTS=2", EXCLUSION),
        ("REAP_DROPS", "FAULTS=1", NO_ORPHAN),
        ("REAP_UNLOCKED", "FAULTS=1 HANDLERS=0", NO_ORPHAN),
        ("REAP_AFTER_FOLD", "FAULTS=1 UNITS=2 RESOURCES=1", NOT_STRANDED),
        ("SESSIONS_SPARED", "FAULTS=1", NOT_STRANDED),
        ("FOLD_UNWOKEN", "FAULTS=0 HANDLERS=0 UNITS=2", NOT_STRANDED),
        ("TASKS_KEPT", "FAULTS=1 HANDLERS=0", EXCLUSION),
        ("NO_DEADLINE", "FAULTS=1 HANDLERS=0", EXCLUSION),
        ("RELEASE_UNCHECKED", "FAULTS=1 HANDLERS=0 LOCKS=1", "no lock is taken that an outsider holds"),
        ("WAIT_UNTIMED", "FAULTS=1 HANDLERS=0 LOCKS=1", "nothing is leased for ever"),
    ],
)
def test_without_a_guard_it_fails(tmp_path: Path, guard: str, options: str, violated: str) -> None:
    outcome = explore(tmp_path, f"{guard} {options}", quickly=True)
    assert outcome.violated == violated, outcome.steps
    assert "worker" in outcome.steps
