"""Context managers that go around handlers, and what they do wrong."""

import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from stripedjob.unit import Hold, Unit

LOG = "STRIPEDJOB_TEST_LOG"


def note(words: str) -> None:
    with Path(os.environ[LOG]).open("a") as log:
        log.write(f"{words}\n")


def name_of(work: Any) -> str:
    return "+".join(one.resource for one in work) if isinstance(work, list) else work.resource


@contextlib.contextmanager
def noted(work: Any) -> Iterator[None]:
    note(f"before {name_of(work)}")
    try:
        yield
    except BaseException as error:
        note(f"{type(error).__name__} {name_of(work)}")
        raise
    note(f"after {name_of(work)}")


@contextlib.asynccontextmanager
async def noted_async(work: Any) -> AsyncIterator[None]:
    with noted(work):
        yield


class Noted:
    """A class, made for each call."""

    def __init__(self, unit: Unit) -> None:
        self._unit = unit

    def __enter__(self) -> None:
        note(f"before {self._unit.resource}")

    def __exit__(self, *_: object) -> None:
        note(f"after {self._unit.resource}")


@contextlib.contextmanager
def refusing(unit: Unit) -> Iterator[None]:
    if unit.resource == "bad":
        raise Hold("not this one")
    yield
    if unit.resource == "late":
        raise ValueError("too late")


@contextlib.contextmanager
def forgiving(unit: Unit) -> Iterator[None]:  # noqa: ARG001
    with contextlib.suppress(Exception):
        yield


@contextlib.contextmanager
def forking(unit: Unit) -> Iterator[None]:
    """Leave a child that goes into the handler, and would come back out of it."""
    child = os.fork()
    yield
    note(f"after {unit.resource}")
    os.waitpid(child, 0)


def nothing(unit: Unit) -> None: ...


def generator(unit: Unit) -> Iterator[None]:  # noqa: ARG001
    yield


async def coroutine(unit: Unit) -> None: ...


def two(unit: Unit, connection: Any) -> None: ...


NOT_A_FUNCTION = 7
