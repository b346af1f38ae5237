"""What a handler returns is run to its end, or refused."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.support import hostile

from stripedjob import Unit
from stripedjob.runtime.handlers.python import is_coroutine_function
from stripedjob.runtime.handlers.results import Finishing, NotRunError, finishing_async

UNIT = Unit(7, "a", 1, 1, "null")


def call(name: str) -> None:
    """Call a handler as the executor would: in an event loop where its form says so."""
    function: Any = getattr(hostile, name)
    if is_coroutine_function(function):
        asyncio.run(finishing_async(function)(UNIT))  # type: ignore[arg-type]
        return
    finishing = Finishing(function)
    try:
        finishing(UNIT)
    finally:
        finishing.close()


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "notes"
    file.touch()
    monkeypatch.setenv(hostile.TRACE_FILE, str(file))
    return file


@pytest.mark.parametrize("name", hostile.RUN)
def test_what_can_be_awaited_is_run_to_its_end(name: str, notes: Path) -> None:
    call(name)
    assert notes.read_text() == "ran 7\n"


@pytest.mark.parametrize("name", hostile.NOT_RUN)
def test_what_cannot_be_run_is_no_success(name: str, notes: Path) -> None:
    with pytest.raises(NotRunError, match="the handler returned a"):
        call(name)
    assert not notes.read_text()


@pytest.mark.parametrize("value", [None, 7, "done", [1], {"a": 1}, iter([1]), range(3), object(), int])
def test_any_other_value_is_no_matter(value: Any) -> None:
    Finishing(lambda _: value)(UNIT)
    asyncio.run(finishing_async(lambda _: value)(UNIT))  # type: ignore[arg-type]


def test_coroutines_of_a_slot_share_an_event_loop(notes: Path) -> None:
    finishing = Finishing(hostile.loops)
    finishing(UNIT)
    finishing(UNIT)
    finishing.close()
    first, second = notes.read_text().splitlines()
    assert first == second
