"""How long a person waits for the first unit and for each command, from an empty folder on, with embedded engines.

Run by `scripts/bench start`. Commands are run as a person does, one after the other. The clock starts before the
program does and stops when it has ended; of `run to its first unit` it stops when the handler of that unit returns.
`empty folder to first unit` is `enqueue`, which makes the database, and `run` after it. `cold` rows begin with stopped
engines, as half a minute after the last command. `seconds` and `cpu_seconds` are medians, `worst` is of all rounds,
`load` is the machine's. CPU is the program's and its workers', not the engines', which go on in the background; what a
person waits on a machine with nothing else to do is little more than that, and for `enqueue` the making of a database.
"""

import argparse
import contextlib
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from local import await_

from stripedjob.local.engine_daemon import DAEMON_LOCK

ROUNDS = 5
PROGRAM = Path(sys.executable).with_name("stripedjob")
FIRST = "first"  # the file into which the handler writes when it returned
HANDLER = f"""
import pathlib, time
def apply(unit):
    with (pathlib.Path(__file__).parent / "{FIRST}").open("a") as file:
        print(time.monotonic(), file=file)
"""
JOB = {
    "apiVersion": "striped.dev/v1alpha1",
    "kind": "StripedJob",
    "metadata": {"name": "prices"},
    "spec": {"handler": {"python": "prices:apply"}},
}
UNITS = "resource,payload\nlamp,1\nchair,2\n"


@dataclass(frozen=True, slots=True)
class Result:
    """One step: the seconds that a person waits."""

    step: str
    seconds: float
    worst: float
    cpu_seconds: float
    rounds: int
    load: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take how often each is measured."""
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help="how often each is measured")


@dataclass(frozen=True, slots=True)
class Took:
    """What a command took: from its start to its end."""

    seconds: float
    cpu_seconds: float


def one_round(folder: Path) -> Iterator[tuple[str, Took]]:
    """Go through the steps in an empty folder; yields what each took."""
    (folder / "prices.py").write_text(HANDLER)
    (folder / "job.yaml").write_text(json.dumps(JOB))  # JSON is YAML
    (folder / "units.csv").write_text(UNITS)
    enqueue = took(folder, "enqueue", "--from", "units.csv")
    yield "enqueue, empty folder", enqueue
    first, whole = run(folder)
    both = Took(enqueue.seconds + first, enqueue.cpu_seconds + whole.cpu_seconds)
    yield "empty folder to first unit", both
    yield "run to its first unit", replace(whole, seconds=first)
    yield "run --until-empty", whole
    yield "status", took(folder, "status")
    yield "explain", took(folder, "explain", "lamp")
    stop_engines(folder)
    yield "status, cold", took(folder, "status")
    took(folder, "enqueue", "--from", "units.csv")
    stop_engines(folder)
    first, whole = run(folder)
    yield "run to its first unit, cold", replace(whole, seconds=first)


def took(folder: Path, command: str, *args: str) -> Took:
    """Do a command, which must succeed."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run([PROGRAM, command, "job.yaml", *args], cwd=folder, check=True, capture_output=True)
    ended, after = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    return Took(ended - began, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def run(folder: Path) -> tuple[float, Took]:
    """Run the job until it is empty: the seconds until its first unit was done, and what the whole took."""
    (folder / FIRST).unlink(missing_ok=True)
    began = time.monotonic()
    whole = took(folder, "run", "--until-empty")
    return float((folder / FIRST).read_text().split()[0]) - began, whole


def stop_engines(folder: Path) -> None:
    """Stop both, as they stop by themselves after a while."""
    for lock in (folder / ".stripedjob").glob(f"*/{DAEMON_LOCK}"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid := int(lock.read_text()), signal.SIGTERM)
            await_(f"{lock.parent.name} has stopped", lambda pid=pid: not Path(f"/proc/{pid}").exists())


def main(_path: Path, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure all steps, round by round; yields a row for each."""
    found: dict[str, list[Took]] = defaultdict(list)
    loads = []
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory(prefix="stripedjob-start-") as folder:
            loads.append(os.getloadavg()[0])
            try:
                for step, one in one_round(Path(folder)):
                    found[step].append(one)
            finally:
                stop_engines(Path(folder))
    for step, all_of in found.items():
        seconds = [one.seconds for one in all_of]
        cpu = statistics.median(one.cpu_seconds for one in all_of)
        yield asdict(
            Result(
                step,
                round(statistics.median(seconds), 2),
                round(max(seconds), 2),
                round(cpu, 2),
                len(all_of),
                round(statistics.fmean(loads), 1),
            )
        )
