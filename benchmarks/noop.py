"""Handlers that do nothing, or nothing for a while."""

import os
import time
from pathlib import Path
from typing import Any

_log: list[int] = []


def act(_unit: Any) -> None:
    """Do nothing."""


def sleep(unit: Any) -> None:
    """Sleep as many seconds as the payload says, and write down how many nanoseconds it really took."""
    if not _log:
        log = Path(os.environ["STRIPEDJOB_BENCH_LOG"])
        _log.append(os.open(log, os.O_APPEND | os.O_CREAT | os.O_WRONLY))
    began = time.perf_counter_ns()
    time.sleep(unit.payload)
    os.write(_log[0], b"%d\n" % (time.perf_counter_ns() - began))
