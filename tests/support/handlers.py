"""Handlers that do what users' handlers do, and worse. The payload says what."""

from __future__ import annotations

import copy
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from stripedjob.unit import Dead, Hold, Retry, Unit

if TYPE_CHECKING:
    import psycopg


class Unspeakable(Exception):  # noqa: N818
    def __str__(self) -> str:
        raise RuntimeError


ACTIONS: dict[str, Callable[[], None]] = {
    "retry": lambda: _raise(Retry("busy", after=7)),
    "in an hour": lambda: _raise(Retry("later", after=3600)),
    "hold": lambda: _raise(Hold("ask a person")),
    "dead": lambda: _raise(Dead("never")),
    "error": lambda: _raise(ValueError("broken")),
    "exit": lambda: sys.exit(3),
    "unspeakable": lambda: _raise(Unspeakable()),
    "interrupt": lambda: _raise(KeyboardInterrupt()),
    "die": lambda: os._exit(9),
    "hang": lambda: time.sleep(3600),
}


def _raise(error: BaseException) -> None:
    raise error


def act(unit: Unit) -> None:
    if isinstance(unit.payload, str) and unit.payload in ACTIONS:
        ACTIONS[unit.payload]()


def act_batch(units: list[Unit]) -> None:
    for unit in units:
        act(unit)


async def act_async(unit: Unit) -> None:
    import asyncio  # noqa: PLC0415 - most executors are started for a plain function

    await asyncio.sleep(0)
    act(unit)


STALE: list[Unit] = []


def stretch(unit: Unit) -> None:
    """Extend as the payload says, {"extend": seconds, "pause": seconds}; a text says what to do wrong."""
    match unit.payload:
        case "keep":
            STALE.append(unit)
        case "stale":
            STALE[0].extend(5)
        case "copied":
            copy.deepcopy(unit).extend(5)  # pickle asks the same of it
        case "thread":
            thread = threading.Thread(target=unit.extend, args=(30,))
            thread.start()
            thread.join()
            time.sleep(1.6)
        case {"extend": seconds, "pause": pause}:
            unit.extend(seconds)
            time.sleep(pause)


def stretch_batch(units: list[Unit]) -> None:
    stretch(units[-1])


async def stretch_async(unit: Unit) -> None:
    unit.extend(unit.payload["extend"])
    import asyncio  # noqa: PLC0415 - as above

    await asyncio.sleep(unit.payload["pause"])


def pause(unit: Unit) -> None:
    """Take as many seconds as the payload says."""
    time.sleep(unit.payload)


def act_slowly(unit: Unit) -> None:
    """Take as many seconds as the payload says, and act where it is a word."""
    if isinstance(unit.payload, float):
        time.sleep(unit.payload)
    act(unit)


def record(unit: Unit, conn: psycopg.Connection) -> None:
    """Write the unit down in the same transaction, after as long as the payload says; fail where it is a word."""
    if isinstance(unit.payload, float):
        time.sleep(unit.payload)
    conn.execute("insert into effect (unit, resource, fence) values (%s, %s, %s)", [unit.id, unit.resource, unit.fence])
    act(unit)


def record_after(unit: Unit, conn: psycopg.Connection) -> None:
    """Take as long as the payload says, then write the unit down by the last statement."""
    time.sleep(unit.payload)
    record(Unit(unit.id, unit.resource, unit.fence, unit.attempt, "null"), conn)


async def record_async(unit: Unit, conn: psycopg.AsyncConnection) -> None:
    await conn.execute(
        "insert into effect (unit, resource, fence) values (%s, %s, %s)", [unit.id, unit.resource, unit.fence]
    )
    act(unit)


def record_batch(units: list[Unit], conn: psycopg.Connection) -> None:
    for unit in units:
        record(unit, conn)


def count(unit: Unit, conn: psycopg.Connection) -> None:
    """Add one to the row that the payload names."""
    conn.execute("update counted set n = n + 1 where name = %s", [unit.payload])


def watched(unit: Unit, conn: psycopg.Connection) -> None:
    """Record the interval of the work as well: (resource, fence, from, to) by the database's clock."""
    started: Any = conn.execute("select clock_timestamp()").fetchone()
    time.sleep(unit.payload or 0)
    conn.execute(
        "insert into effect (unit, resource, fence, began, ended) values (%s, %s, %s, %s, clock_timestamp())",
        [unit.id, unit.resource, unit.fence, started[0]],
    )


_log: list[int] = []


def logged(unit: Unit) -> None:
    """Take the payload's seconds, and append "began ended resource unit" to STRIPEDJOB_TEST_LOG; times in ns."""
    if not _log:
        _log.append(os.open(os.environ["STRIPEDJOB_TEST_LOG"], os.O_APPEND | os.O_CREAT | os.O_WRONLY))
    began = time.monotonic_ns()
    time.sleep(unit.payload or 0)
    os.write(_log[0], f"{began} {time.monotonic_ns()} {unit.resource} {unit.id}\n".encode())


NOT_A_FUNCTION = 7
