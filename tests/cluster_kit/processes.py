"""The cluster's processes. Each is found by a mark in its environment, however it came to be orphaned."""

from __future__ import annotations

import os
import subprocess
import time
from typing import TYPE_CHECKING

import psutil
from tests.cluster_kit.home import LOGS, STATE, ClusterError, tail

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

MARK = "STRIPEDJOB_CLUSTER"
PART = "STRIPEDJOB_CLUSTER_PART"
END_SECONDS_MAX = 10


def start(part: str, argv: Sequence[str | Path], env: Mapping[str, str] | None = None) -> None:
    """Start one of the cluster's programs in a session of its own; its log is LOGS/<part>.log."""
    LOGS.mkdir(parents=True, exist_ok=True)
    with (LOGS / f"{part}.log").open("ab") as log:
        subprocess.Popen(
            [str(one) for one in argv],
            env={**os.environ, **(env or {}), MARK: str(STATE), PART: part},
            cwd=STATE,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def running() -> dict[str, list[psutil.Process]]:
    """Return the processes of this machine's cluster by part; those that a part started count as that part."""
    found: dict[str, list[psutil.Process]] = {}
    for process in psutil.process_iter():
        try:
            environ = process.environ()
            if environ.get(MARK) == str(STATE) and process.status() != psutil.STATUS_ZOMBIE:
                found.setdefault(environ.get(PART, "?"), []).append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            continue
    return found


def end_all(more: Callable[[], list[int]] = list) -> None:
    """Kill every process of the cluster, and those that `more` gives, until none is left. Nothing they keep is kept."""
    end = time.monotonic() + END_SECONDS_MAX
    while True:
        left = [process for part in running().values() for process in part]
        for pid in more():
            try:
                left.append(psutil.Process(pid))
            except psutil.NoSuchProcess:
                continue
        if not left:
            return
        if time.monotonic() > end:
            raise ClusterError(f"these processes do not end: {', '.join(map(str, left))}")
        for process in left:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(left, timeout=1)


def await_(what: str, is_so: Callable[[], object], seconds: float, parts: Sequence[str] = ()) -> None:
    """Wait until something is so; raises ClusterError when it takes too long or when one of `parts` has ended."""
    end = time.monotonic() + seconds
    checked = time.monotonic()
    while not is_so():
        now = time.monotonic()
        if now - checked > 1:
            checked = now
            dead = [part for part in parts if part not in running()]
            if dead:
                raise ClusterError(f"{dead[0]} has ended (log: {LOGS / dead[0]}.log)\n{tail(LOGS / f'{dead[0]}.log')}")
        if now > end:
            words = "\n".join(f"{part}:\n{tail(LOGS / f'{part}.log')}" for part in parts)
            raise ClusterError(f"{what}: not within {seconds:.0f} s\n{words}")
        time.sleep(0.1)
