"""Applications that put units in while everything fails: commits, rollbacks, savepoints, late commits, delayed units.

Each is a thread with a connection of its own, and writes its history: what it was about to commit, and what it then
knew of it.
"""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
from typing import TYPE_CHECKING, Any, TextIO

import psycopg

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

ENQUEUE = """select striped.enqueue(%s, %s, %s, due_at => clock_timestamp() + make_interval(secs => %s))"""
RESOURCES = 60
AREAS = 2
RETRY_SECONDS = 0.2
AWAY = (psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction)
CALL_SECONDS_MAX = 5
UNITS_MAX = 4
PAUSE_SECONDS_MAX = 0.06
SLOW_SECONDS = 1.0


class Client:
    """One application. `jobs`: which job types it feeds, and how often each; `may`: whether to go on feeding."""

    def __init__(self, url: str, jobs: Sequence[str], log: Path, seed: str, may: Callable[[], bool]) -> None:
        """Take where it connects to and where its history goes."""
        self._url, self._jobs, self._path, self._may = url, jobs, log, may
        self._dice = random.Random(seed)
        self._stop = threading.Event()
        self._ops = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, after the transaction that is under way."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with self._path.open("w") as log:
            while not self._stop.is_set():
                with contextlib.suppress(*AWAY), self._connection() as conn:
                    while not self._stop.is_set():
                        if self._may():
                            self._transaction(conn, log)
                        self._stop.wait(self._dice.uniform(0, PAUSE_SECONDS_MAX))
                self._stop.wait(RETRY_SECONDS)

    @contextlib.contextmanager
    def _connection(self) -> Iterator[psycopg.Connection]:
        options = {"connect_timeout": CALL_SECONDS_MAX, "tcp_user_timeout": CALL_SECONDS_MAX * 1000}
        with contextlib.closing(psycopg.connect(self._url, autocommit=True, **options)) as conn:  # type: ignore[arg-type]
            yield conn

    def _transaction(self, conn: psycopg.Connection, log: TextIO) -> None:
        """Put some units in, and end in one of the ways in which applications end."""
        began = time.monotonic()
        how = self._dice.choices(("commit", "late", "rollback", "savepoint"), (80, 5, 8, 7))[0]
        conn.execute("begin")
        units = [(*unit, True) for unit in self._units(conn)]
        if how == "savepoint":
            conn.execute("savepoint half")
            units += [(*unit, False) for unit in self._units(conn)]
            conn.execute("rollback to savepoint half")
            units += [(*unit, True) for unit in self._units(conn)]
        if how == "late":
            self._stop.wait(self._dice.uniform(0.2, 1.5))
        self._ops += 1
        self._write(log, "invoke", began=began, units=units)
        outcome = "fail" if how == "rollback" else "unknown"
        try:
            conn.execute("rollback" if how == "rollback" else "commit")
            outcome = "fail" if how == "rollback" else "ok"
        finally:
            self._write(log, outcome)

    def _units(self, conn: psycopg.Connection) -> Iterator[tuple[str, int, str]]:
        for _ in range(self._dice.randint(1, UNITS_MAX)):
            number = self._dice.randrange(RESOURCES)
            job, resource = self._dice.choice(self._jobs), f"r{number}"
            payload: dict[str, Any] = {"area": f"a{number % AREAS}"}
            if self._dice.random() < 0.005:
                payload["seconds"] = SLOW_SECONDS
            due_in = self._dice.uniform(0.1, 2) if self._dice.random() < 0.05 else None
            row = conn.execute(ENQUEUE, [job, resource, json.dumps(payload), due_in]).fetchone()
            assert row is not None
            yield job, int(row[0]), resource

    def _write(self, log: TextIO, type_: str, **facts: Any) -> None:
        log.write(json.dumps({"type": type_, "op": self._ops, "at": time.monotonic(), **facts}) + "\n")
        log.flush()
