"""The executor process and its executor: whatever the handler does, every lease comes back with one final outcome."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.support import hostile
from tests.support.leases import PATIENCE_SECONDS, lease
from tests.support.leases import run as run_with

from stripedjob.runtime.executor.supervisor import ExecutorSupervisor, HandlerError
from stripedjob.runtime.executor.wire import Config, send
from stripedjob.runtime.handlers.settings import HandlerSettings
from stripedjob.runtime.outcome import Fault, Outcome, Verdict
from stripedjob.runtime.shared_state import SharedState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stripedjob.pool.types import Lease

PLACE = re.compile(r" \(handlers\.py:\d+ in .*\)$")
HANDLERS = "tests.support.handlers"
CONFIG = Config(HandlerSettings("python", (f"{HANDLERS}:act",)), path=str(Path(__file__).parents[2]))


def calling(function: str, **changes: Any) -> Config:
    name = function if ":" in function else f"{HANDLERS}:{function}"
    return replace(CONFIG, handler=HandlerSettings("python", (name,), **changes))


def run(leases: Sequence[Lease], config: Config = CONFIG) -> dict[int, Outcome]:
    return run_with(leases, config)


@pytest.mark.parametrize("function", ["act", "act_async"])
@pytest.mark.parametrize("slots", [1, 4])
def test_many_leases_come_back_done(function: str, slots: int) -> None:
    config = replace(calling(function), slots=slots)
    ended = run([lease(f"r{n}", "", "", "") for n in range(200)], config)
    assert [(ended[n].tried, ended[n].faults) for n in range(200)] == [(3, ())] * 200


@pytest.mark.parametrize("function", ["act", "act_async"])
def test_each_way_of_failing_has_its_verdict(function: str) -> None:
    ended = run(
        [lease("a", "", "retry", "hold", "dead", "error", "exit", "unspeakable", "")],
        calling(function),
    )
    assert ended[0].tried == 8
    assert [replace(fault, reason=PLACE.sub("", fault.reason), trace="") for fault in ended[0].faults] == [
        Fault(1, Verdict.RETRY, "busy", 7),
        Fault(2, Verdict.HOLD, "ask a person"),
        Fault(3, Verdict.DEAD, "never"),
        Fault(4, Verdict.RETRY, "ValueError: broken"),
        Fault(5, Verdict.RETRY, "SystemExit: 3"),
        Fault(6, Verdict.RETRY, "Unspeakable"),
    ]


def test_a_blocking_failure_ends_its_lease() -> None:
    ended = run([lease("a", "", "dead", "error", "")], replace(CONFIG, block=True))
    assert (ended[0].tried, [f.index for f in ended[0].faults]) == (3, [1, 2])


def test_a_failed_batch_fails_all_its_units() -> None:
    config = calling("act_batch", per_resource=True)
    ended = run([lease("a", "", "error", ""), lease("b", "", "")], config)
    assert [f.index for f in ended[0].faults] == [0, 1, 2]
    assert (ended[1].tried, ended[1].faults) == (2, ())


def test_a_handler_that_kills_its_process_is_blamed_and_the_rest_goes_back() -> None:
    ended = run([lease("a", "", "die", ""), lease("b", "")])
    assert ended[0].faults == (Fault(1, Verdict.CRASH, "the handler's process exited with code 9"),)
    assert (ended[0].tried, ended[1].tried, ended[1].faults) == (0, 0, ())


def test_a_handler_that_hangs_is_stopped_and_tried_again() -> None:
    ended = run([lease("a", "hang", "")], calling("act", timeout_seconds=0.5))
    (fault,) = ended[0].faults
    assert (fault.index, fault.verdict) == (0, Verdict.RETRY)
    assert "ran over its 0.5 s" in fault.reason


def test_nothing_starts_after_the_deadline() -> None:
    async def scene() -> list[Outcome]:
        async with ExecutorSupervisor(CONFIG) as executor, asyncio.timeout(PATIENCE_SECONDS):
            executor.submit([(0, lease("a", ""))])
            return await executor.outcomes()

    (outcome,) = asyncio.run(scene())
    assert (outcome.tried, outcome.final) == (0, True)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("no.such.module:act", "cannot be loaded: ModuleNotFoundError: No module named 'no'"),
        (f"{HANDLERS}:nothing", "has no nothing"),
        (f"{HANDLERS}:NOT_A_FUNCTION", "it is a int, not a function"),
    ],
)
def test_a_function_that_cannot_be_had_is_named(function: str, message: str) -> None:
    with pytest.raises(HandlerError, match=message):
        run([], calling(function))


def test_an_executor_ends_with_a_worker_that_left_what_it_said_unread() -> None:
    shared_state = SharedState.create(1)
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-P", "-c", "from stripedjob.runtime.executor.main import main; main()"]
        fds = (theirs.fileno(), shared_state.fd)
        process = subprocess.Popen([*command, *map(str, fds)], pass_fds=fds, start_new_session=True)
    with process, ours:
        ours.settimeout(PATIENCE_SECONDS)
        send(ours, CONFIG)
        ours.recv(1, socket.MSG_PEEK)  # it is ready, and says so
        ours.close()
        try:
            assert process.wait(PATIENCE_SECONDS) == 0
        finally:
            process.kill()


HOSTILE = "tests.support.hostile"


@pytest.mark.parametrize("function", ["raises", "raises_async"])
def test_whatever_a_handler_raises_is_an_outcome_and_the_executor_goes_on(function: str) -> None:
    raised = [
        *hostile.EXCEPTIONS,
        *(["no retry", name] for name in hostile.NO_DELAYS),
        *(["badly", name] for name in hostile.NO_DELAYS),
        *(["retry", name] for name in hostile.DELAYS),
        ["bare"],
        ["moody"],
        *([verdict, words] for verdict in ("hold", "dead") for words in ("a\0b", "x" * 1_000_000, "")),
    ]
    outcome = run([lease("a", *raised, 7)], calling(f"{HOSTILE}:{function}"))[0]
    assert outcome.tried == len(raised) + 1
    assert [fault.index for fault in outcome.faults] == list(range(len(raised)))
    assert [type(text) for fault in outcome.faults for text in (fault.reason, fault.trace)] == [str] * 2 * len(raised)


def test_a_failed_batch_has_one_trace() -> None:
    ended = run([lease("a", "", "error", "")], calling("act_batch", per_resource=True))
    first, *rest = ended[0].faults
    assert first.trace.endswith("ValueError: broken")
    assert {(fault.reason, fault.trace) for fault in rest} == {(first.reason, "")}
