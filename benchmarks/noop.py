"""Handlers that do nothing, or nothing for a while."""

import functools
import os
import time
from pathlib import Path
from typing import Any


def act(_unit: Any) -> None:
    """Do nothing."""


def sleep(unit: Any) -> None:
    """Sleep as many seconds as the payload says, and write down how many nanoseconds it really took."""
    began = time.perf_counter_ns()
    time.sleep(unit.payload)
    os.write(_descriptor(), b"%d\n" % (time.perf_counter_ns() - began))


@functools.cache
def _descriptor() -> int:
    return os.open(Path(os.environ["STRIPEDJOB_BENCH_LOG"]), os.O_APPEND | os.O_CREAT | os.O_WRONLY)


def age(unit: Any) -> None:
    """Write down how many seconds ago one unit in fifty was put in; its payload says when."""
    if unit.id % 50 == 0:
        os.write(_descriptor(), b"%f\n" % (time.time() - unit.payload))


def work(unit: Any) -> None:
    """Sleep as many seconds as the payload's `s` says."""
    if unit.payload["s"]:
        time.sleep(unit.payload["s"])


def record(unit: Any) -> None:
    """Do that, and write down which unit it was, and when it began and ended."""
    began = time.monotonic_ns()
    work(unit)
    line = f"{unit.payload['n']} {unit.payload['r']} {began} {time.monotonic_ns()}\n"
    os.write(_descriptor(), line.encode())
