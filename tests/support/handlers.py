"""Handlers that do what users' handlers do, and worse. The payload says what."""

import asyncio
import os
import sys
import time
from collections.abc import Callable

from stripedjob.runtime.work import Dead, Hold, Retry, Unit

ACTIONS: dict[str, Callable[[], None]] = {
    "retry": lambda: _raise(Retry("busy", after=7)),
    "hold": lambda: _raise(Hold("ask a person")),
    "dead": lambda: _raise(Dead("never")),
    "error": lambda: _raise(ValueError("broken")),
    "exit": lambda: sys.exit(3),
    "die": lambda: os._exit(9),
    "hang": lambda: time.sleep(3600),
}


def _raise(error: Exception) -> None:
    raise error


def act(unit: Unit) -> None:
    if unit.payload in ACTIONS:
        ACTIONS[unit.payload]()


def act_batch(units: list[Unit]) -> None:
    for unit in units:
        act(unit)


async def act_async(unit: Unit) -> None:
    await asyncio.sleep(0)
    act(unit)


NOT_A_FUNCTION = 7
