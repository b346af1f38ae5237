"""The worker's side of the gate: a process that is ready at once, and works between `go` and `stop` on its stdin.

Imported by the workers in Python; gate.mjs is the same for Node.
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

CONFIG = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
_records: list[str] = []


def began_and_ended(payload: dict[str, Any], began: int) -> None:
    """Write down that a unit has been worked since `began`, where records are wanted."""
    if CONFIG["records"]:
        _records.append(f"{payload['n']} {payload['r']} {began} {time.monotonic_ns()}\n")


def act(payload: dict[str, Any]) -> None:
    """Be the handler: do nothing, or sleep for as long as the payload says."""
    began = time.monotonic_ns()
    if payload["s"]:
        time.sleep(payload["s"])
    began_and_ended(payload, began)


def turns() -> Iterator[threading.Event]:
    """Yield an event for each `go`, which is set when the turn is to end; ends with the stdin."""
    _say("ready")
    lines = iter(sys.stdin.readline, "")
    for line in lines:
        if line.strip() != "go":
            continue
        is_over = threading.Event()
        threading.Thread(target=lambda over=is_over: (next(lines, ""), over.set()), daemon=True).start()
        yield is_over
        with Path(CONFIG["records"] or "/dev/null").open("a") as file:
            file.writelines(_records)
        _records.clear()
        _say("stopped")


def repeat(step: Callable[[], bool]) -> None:
    """Take steps in each turn; after one that found nothing, rest as long as the config says."""
    for is_over in turns():
        while not is_over.is_set():
            if not step():
                is_over.wait(CONFIG["rest_seconds"])


def _say(word: str) -> None:
    print(word, flush=True)
