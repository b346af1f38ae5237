"""The handlers of the jobs under test: no import but the standard library, since it is copied beside the job's file.

Each execution is written down as it begins and as it ends, in a file for each process, by the monotonic clock.
"""

import os
import threading
import time
from pathlib import Path
from typing import Any

FAILS_AT_FIRST = 20  # every so manieth unit fails at its first attempt
EXECUTIONS = Path(__file__).parent / "executions"
_pause = threading.Event()
_log: list[int] = []


def record(unit: Any, conn: Any) -> None:
    """Have an effect in the transaction that completes the unit."""
    _note("began", unit)
    _work(unit)
    conn.execute(
        "insert into history.effect (unit, resource, fence) values (%s, %s, %s)", [unit.id, unit.resource, unit.fence]
    )
    _note("ended", unit)


def act(unit: Any) -> None:
    """Have an effect outside of the database: what is written down is all of it."""
    _note("began", unit)
    _work(unit)
    _note("ended", unit)


def _work(unit: Any) -> None:
    seconds = unit.payload.get("seconds", 0)
    if seconds:
        _pause.wait(seconds)
    if unit.attempt == 1 and unit.id % FAILS_AT_FIRST == 0:
        _note("ended", unit)
        raise ValueError("not yet")


def _note(what: str, unit: Any) -> None:
    if not _log:
        EXECUTIONS.mkdir(exist_ok=True)
        _log.append(os.open(EXECUTIONS / f"{os.getpid()}.log", os.O_APPEND | os.O_CREAT | os.O_WRONLY))
    line = f"{what} {time.monotonic_ns()} {os.getpid()} {unit.id} {unit.fence} {unit.resource}\n"
    os.write(_log[0], line.encode())
