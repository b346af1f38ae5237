"""What becomes of a try whose unit is cancelled while it runs, in each kind of handler, and in whole workers."""

from __future__ import annotations

import asyncio
import subprocess
import uuid
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.support.leases import PATIENCE_SECONDS, lease
from tests.support.worker_env import Site, drained

from stripedjob.pool.client.owner import OwnerPool
from stripedjob.pool.client.person import Cancelled
from stripedjob.pool.types import Database
from stripedjob.runtime.clock import now
from stripedjob.runtime.executor import supervisor
from stripedjob.runtime.executor.supervisor import ExecutorSupervisor
from stripedjob.runtime.executor.wire import Config
from stripedjob.runtime.handlers import command
from stripedjob.runtime.handlers.settings import HandlerSettings
from stripedjob.runtime.outcome import Fault, Outcome, Verdict
from stripedjob.unit import Unit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stripedjob.runtime.worker.loop import Worker

pytestmark = pytest.mark.migrated

ROOT = str(Path(__file__).parents[2])
WHY = "cancelled by ann: a mistake"
HEARD_SECONDS = 0.5  # in which an executor reads what it is told while it works
DEAD = (Fault(0, Verdict.DEAD, WHY),)
TERM = ["sh", "-c", "trap 'echo ended >&2; exit 7' TERM; sleep 3600 & wait"]
DEAF = ["sh", "-c", "trap '' TERM; while :; do sleep 1; done"]


def python(function: str, *, per_resource: bool = False) -> HandlerSettings:
    return HandlerSettings("python", (f"tests.support.cancel_handlers:{function}",), per_resource=per_resource)


def cancelled(handler: HandlerSettings, payloads: Sequence[bool], index: int = 0, slots: int = 1) -> Outcome:
    """Work on a lease, cancel a unit of it as soon as something runs, and give its outcome with all its faults."""

    async def scene() -> Outcome:
        faults: tuple[Fault, ...] = ()
        async with ExecutorSupervisor(Config(handler, slots, path=ROOT)) as executor, asyncio.timeout(PATIENCE_SECONDS):
            executor.shared_state.deadline = now() + 3600
            executor.submit([(5, lease("a", *payloads))])
            while not executor.shared_state.running():
                await asyncio.sleep(0.005)
            for _ in range(2):
                executor.cancel({(5, index): WHY, (99, 0): "of another lease"})
            while True:
                for outcome in await executor.outcomes():
                    faults += outcome.faults
                    if outcome.final:
                        return outcome._replace(faults=faults)

    return asyncio.run(scene())


def call_seconds(ended: Outcome) -> float:
    """Return how long the calls took, 0 if that was little: without the start of their process."""
    return sum(call.seconds for call in ended.calls)


@pytest.mark.parametrize("function", ["looks", "sleeps", "hears"])
def test_a_handler_that_hears_it_ends_at_once(function: str) -> None:
    ended = cancelled(python(function), [True])
    assert ended.faults == DEAD
    assert call_seconds(ended) < supervisor.CANCEL_SECONDS


def test_a_coroutine_is_told_why(capfd: pytest.CaptureFixture[str]) -> None:
    cancelled(python("hears"), [True])
    assert f"heard {WHY} {WHY}" in capfd.readouterr().err


def test_a_handler_that_returns_is_done_all_the_same() -> None:
    ended = cancelled(python("finishes"), [True])
    assert (ended.tried, ended.faults) == (1, ())


@pytest.mark.parametrize("function", ["looks", "sleeps", "hears"])
def test_what_is_not_begun_does_not_begin(function: str) -> None:
    """The lease ends before it; so that it goes on elsewhere, the first has to end, too."""

    async def scene() -> list[Outcome]:
        handler = python(function)
        async with ExecutorSupervisor(Config(handler, path=ROOT)) as executor, asyncio.timeout(PATIENCE_SECONDS):
            executor.shared_state.deadline = now() + 3600
            executor.submit([(4, lease("holds the slot", 1)), (5, lease("a", 0, 1, 0))])
            while not executor.shared_state.running():
                await asyncio.sleep(0.01)
            executor.cancel({(5, 1): WHY})
            await asyncio.sleep(HEARD_SECONDS)
            executor.cancel({(4, 0): WHY})
            ended: list[Outcome] = []
            while not any(one.key == 5 and one.final for one in ended):
                ended += await executor.outcomes()
            return [one for one in ended if one.key == 5]

    ended = asyncio.run(scene())
    assert [one.faults for one in ended if one.faults] == []
    assert max(one.tried for one in ended) == 1


@pytest.mark.parametrize("function", ["sleeps", "hears"])
def test_the_slot_goes_on_with_the_next_unit(function: str) -> None:
    ended = cancelled(python(function), [True, False, False])
    assert (ended.tried, ended.faults) == (3, DEAD)


def test_what_does_not_hear_it_ends_with_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "CANCEL_SECONDS", 0.3)
    ended = cancelled(python("stubborn"), [False, True, True], index=1)
    assert (ended.faults, ended.suspect) == ((Fault(1, Verdict.DEAD, WHY),), False)
    ended = cancelled(python("stubborn_batch", per_resource=True), [True, True], index=1)
    assert (ended.faults, ended.tried) == ((Fault(1, Verdict.DEAD, WHY),), 0)


def test_of_a_call_with_many_units_the_others_go_back() -> None:
    ended = cancelled(python("batch", per_resource=True), [False, True, True], index=1)
    assert (ended.faults, ended.tried) == ((Fault(1, Verdict.DEAD, WHY),), 0)


def test_a_command_gets_sigterm() -> None:
    mark = uuid.uuid4().hex
    ended = cancelled(HandlerSettings("exec", (*TERM, mark)), [True])
    assert ended.faults == DEAD
    assert call_seconds(ended) < command.TERM_SECONDS_MAX
    assert _left(mark) == ""


def test_a_command_that_is_deaf_is_killed() -> None:
    mark = uuid.uuid4().hex
    assert cancelled(HandlerSettings("exec", (*DEAF, mark)), [True]).faults == DEAD
    assert _left(mark) == ""


def _left(mark: str) -> str:
    """List what is left of a command with this argument: others run beside it."""
    found = subprocess.run(["pgrep", "-f", mark], capture_output=True, text=True, check=False)
    return found.stdout


@pytest.mark.parametrize("function", ["writes", "writes_async"])
def test_a_transaction_that_is_cancelled_leaves_nothing(
    fresh_database: str, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    monkeypatch.setattr(supervisor, "CANCEL_SECONDS", 0.3)
    site = Site(fresh_database)
    database = Database(fresh_database, "striped", site.job_id)
    handler = HandlerSettings("python", (f"tests.support.cancel_handlers:{function}",), database=database)
    play(site, handler, "true")
    assert site.sql("select count(*), count(u.id) from effect e left join striped.unit u on u.id = e.unit") == [(1, 0)]


@pytest.mark.parametrize("function", ["looks", "sleeps"])
def test_a_worker_ends_what_a_person_cancels(fresh_database: str, fresh_valkey: str, function: str) -> None:
    play(Site(fresh_database, fresh_valkey), python(function), "true")


def play(site: Site, handler: HandlerSettings, payload: str) -> None:
    """Have a worker work on two units of a resource, the first of which is cancelled while it runs."""
    site.sql("select striped.enqueue('sync', 'a', %s)", [payload])
    site.sql("select striped.enqueue('sync', 'a', 'false')")

    async def cancel(worker: Worker) -> None:
        while not worker._executor.shared_state.running():
            await asyncio.sleep(0.02)
        with OwnerPool.open(site.url) as people:
            (first,) = site.sql("select id from striped.unit where payload = %s", [payload])[0]
            assert people.cancel(site.job_id, None, [first], "ann", "a mistake") == Cancelled(0, 1)

    async def scene() -> None:
        async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE_SECONDS):
            worker = await site.worker(stack, handler)
            await asyncio.gather(drained(site, [worker]), cancel(worker))

    asyncio.run(scene())
    assert site.sql("select state::text, reason from striped.unit") == [("dead", WHY)]
    status = site.status()
    assert (status["total_done"], status["dead"], status["total_crashed"], status["pending"]) == (1, 1, 0, 0)


def test_a_unit_made_by_hand_is_not_cancelled() -> None:
    assert Unit(1, "a", 1, 1, "null").cancelled == ""
