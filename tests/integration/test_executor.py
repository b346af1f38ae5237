"""The executor process and its host: whatever the handler does, every lease comes back with one final outcome."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stripedjob.pool.types import Lease
from stripedjob.runtime.executor import Config
from stripedjob.runtime.host import HandlerError, Host
from stripedjob.runtime.work import Fault, Outcome, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

HANDLERS = "tests.support.handlers"
CONFIG = Config(f"{HANDLERS}:act", per_resource=False, slots=1, block=False, path=str(Path(__file__).parents[2]))
PATIENCE_SECONDS = 30


def lease(name: str, *payloads: str) -> Lease:
    ids = tuple(range(1, len(payloads) + 1))
    zeros = (0,) * len(ids)
    texts = tuple(json.dumps(payload) for payload in payloads)
    return Lease(name, 1, suspect=False, more=False, ids=ids, attempts=zeros, crashes=zeros, payloads=texts)


def run(leases: Sequence[Lease], config: Config = CONFIG, timeout_seconds: float = 60) -> dict[int, Outcome]:
    """Run the leases and return their final outcomes, with the faults of all outcomes."""

    async def scene() -> dict[int, Outcome]:
        ended: dict[int, Outcome] = {}
        faults: dict[int, tuple[Fault, ...]] = {}
        async with Host(config, timeout_seconds) as host, asyncio.timeout(PATIENCE_SECONDS):
            host.board.deadline = time.monotonic() + 3600
            host.submit(enumerate(leases))
            while len(ended) < len(leases):
                for outcome in await host.outcomes():
                    faults[outcome.key] = faults.get(outcome.key, ()) + outcome.faults
                    if outcome.final:
                        assert outcome.key not in ended
                        ended[outcome.key] = outcome
        return {key: replace(outcome, faults=faults[key]) for key, outcome in ended.items()}

    return asyncio.run(scene())


@pytest.mark.parametrize("function", ["act", "act_async"])
@pytest.mark.parametrize("slots", [1, 4])
def test_many_leases_come_back_done(function: str, slots: int) -> None:
    config = replace(CONFIG, function=f"{HANDLERS}:{function}", slots=slots)
    ended = run([lease(f"r{n}", "", "", "") for n in range(200)], config)
    assert [(ended[n].tried, ended[n].faults) for n in range(200)] == [(3, ())] * 200


@pytest.mark.parametrize("function", ["act", "act_async"])
def test_each_way_of_failing_has_its_verdict(function: str) -> None:
    ended = run(
        [lease("a", "", "retry", "hold", "dead", "error", "exit", "")],
        replace(CONFIG, function=f"{HANDLERS}:{function}"),
    )
    assert ended[0].tried == 7
    assert ended[0].faults == (
        Fault(1, Verdict.RETRY, "busy", 7),
        Fault(2, Verdict.HOLD, "ask a person"),
        Fault(3, Verdict.DEAD, "never"),
        Fault(4, Verdict.RETRY, "ValueError: broken"),
        Fault(5, Verdict.RETRY, "SystemExit: 3"),
    )


def test_a_blocking_failure_ends_its_lease() -> None:
    ended = run([lease("a", "", "dead", "error", "")], replace(CONFIG, block=True))
    assert (ended[0].tried, [f.index for f in ended[0].faults]) == (3, [1, 2])


def test_a_failed_batch_fails_all_its_units() -> None:
    config = replace(CONFIG, function=f"{HANDLERS}:act_batch", per_resource=True)
    ended = run([lease("a", "", "error", ""), lease("b", "", "")], config)
    assert [f.index for f in ended[0].faults] == [0, 1, 2]
    assert (ended[1].tried, ended[1].faults) == (2, ())


def test_a_handler_that_kills_its_process_is_blamed_and_the_rest_goes_back() -> None:
    ended = run([lease("a", "", "die", ""), lease("b", "")])
    assert ended[0].faults == (Fault(1, Verdict.CRASH, "the handler's process exited with code 9"),)
    assert (ended[0].tried, ended[1].tried, ended[1].faults) == (0, 0, ())


def test_a_handler_that_hangs_is_stopped_and_tried_again() -> None:
    ended = run([lease("a", "hang", "")], timeout_seconds=0.5)
    (fault,) = ended[0].faults
    assert (fault.index, fault.verdict) == (0, Verdict.RETRY)
    assert "ran over its 0.5 s" in fault.reason


def test_nothing_starts_after_the_deadline() -> None:
    async def scene() -> list[Outcome]:
        async with Host(CONFIG, 60) as host, asyncio.timeout(PATIENCE_SECONDS):
            host.submit([(0, lease("a", ""))])
            return await host.outcomes()

    (outcome,) = asyncio.run(scene())
    assert (outcome.tried, outcome.final) == (0, True)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("no.such.module:act", "cannot be imported: ModuleNotFoundError: No module named 'no'"),
        (f"{HANDLERS}:nothing", "has no nothing"),
        (f"{HANDLERS}:NOT_A_FUNCTION", "it is a int, not a function"),
    ],
)
def test_a_function_that_cannot_be_had_is_named(function: str, message: str) -> None:
    with pytest.raises(HandlerError, match=message):
        run([], replace(CONFIG, function=function))
