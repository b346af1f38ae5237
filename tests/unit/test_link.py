"""The supervisor's connection: what passes is waited for, what lasts is said."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from stripedjob.local import link as module
from stripedjob.local.link import Link
from stripedjob.pool.errors import PoolError, PoolRefusedError, PoolSchemaError, PoolUnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Pools:
    """Counts how often a connection is opened and closed; `fault`: what opening raises."""

    def __init__(self) -> None:
        self.opened = self.closed = 0
        self.fault: PoolError | None = None
        self.notes: list[str] = []

    @contextmanager
    def open(self) -> Iterator[Any]:
        if self.fault:
            raise self.fault
        self.opened += 1
        yield self
        self.closed += 1

    def link(self) -> Link:
        return Link(self.open, self.notes.append)


def failing(error: PoolError) -> Callable[[Any], Any]:
    def question(_: Any) -> Any:
        raise error

    return question


@pytest.mark.parametrize("error", [PoolUnreachableError("gone"), PoolError("read-only")])
def test_after_a_fault_the_next_question_goes_over_a_new_connection(error: PoolError) -> None:
    pools = Pools()
    link = pools.link()
    for n in range(1, 4):
        assert link.ask(lambda _: 1) == 1
        assert link.ask(failing(error)) is None
        assert link.ask(failing(error)) is None
        assert (pools.opened, pools.closed) == (2 * n, 2 * n)
    assert pools.notes == [f"{error}; trying again"] * 3  # once for each time that it is away


def test_where_no_connection_is_to_be_had_it_is_tried_again() -> None:
    pools = Pools()
    link = pools.link()
    pools.fault = PoolUnreachableError("away")
    assert link.ask(lambda _: 1) is None
    pools.fault = None
    assert link.ask(lambda _: 1) == 1
    link.close()
    assert pools.closed == 1


@pytest.mark.parametrize("error", [PoolRefusedError("no"), PoolSchemaError("other")])
def test_what_lasts_is_raised(error: PoolError) -> None:
    with pytest.raises(type(error)):
        Pools().link().ask(failing(error))


def test_what_passes_for_too_long_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    link, now = Pools().link(), [1000.0]
    monkeypatch.setattr("stripedjob.local.link.time.monotonic", lambda: now[0])
    error = PoolUnreachableError("gone")
    assert link.ask(failing(error)) is None
    now[0] += module.UNREACHABLE_SECONDS_MAX
    assert link.ask(failing(error)) is None
    now[0] += 1
    with pytest.raises(PoolUnreachableError):
        link.ask(failing(error))
