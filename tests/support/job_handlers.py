"""Handlers for jobs that tests run from a folder of their own: no import but the standard library."""

import os
import time
from pathlib import Path
from typing import Any


def watched(unit: Any, conn: Any) -> None:
    """Record the interval of the work, by the database's clock, in the transaction that completes the unit."""
    began = conn.execute("select clock_timestamp()").fetchone()[0]
    if isinstance(unit.payload, dict) and "until" in unit.payload:
        while not Path(unit.payload["until"]).exists():
            time.sleep(0.02)
    conn.execute(
        "insert into effect (unit, resource, fence, began, ended) values (%s, %s, %s, %s, clock_timestamp())",
        [unit.id, unit.resource, unit.fence, began],
    )


def fails_at_first(unit: Any, conn: Any) -> None:
    """Record the interval of the work, but fail at the first try of every seventh unit."""
    if unit.id % 7 == 0 and unit.attempt == 1:
        raise ValueError("not yet")
    watched(unit, conn)


def needs(unit: Any, _conn: Any = None) -> None:
    """Do it where the file `up` is here, and fail like all others where it is not."""
    here = Path(__file__).parent
    if not (here / "up").exists():
        raise ConnectionError(f"unit {unit.id} finds nothing at {here}")


def act(unit: Any) -> None:
    """Do what the payload says: raise, hang, exit, or take a time."""
    match unit.payload:
        case "raise":
            raise ValueError("broken")
        case "hang":
            time.sleep(3600)
        case "exit":
            os._exit(3)
        case float():
            time.sleep(unit.payload)
