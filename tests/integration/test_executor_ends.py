"""How an executor ends, by whom, and what is left of it: nothing of a lost lease, no child, every word it printed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.support import hostile
from tests.support.leases import PATIENCE_SECONDS, lease, run

from stripedjob.runtime.clock import now
from stripedjob.runtime.executor import supervisor
from stripedjob.runtime.executor.supervisor import STARTS_MAX, ExecutorSupervisor, HandlerError
from stripedjob.runtime.executor.wire import Config
from stripedjob.runtime.handlers.settings import HandlerSettings
from stripedjob.runtime.outcome import Fault, Outcome, Verdict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from stripedjob.pool.types import Lease

ROOT = str(Path(__file__).parents[2])


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "notes"
    file.touch()
    monkeypatch.setenv(hostile.TRACE_FILE, str(file))
    return file


def calling(function: str, **changes: Any) -> Config:
    name = function if ":" in function else f"tests.support.hostile:{function}"
    return Config(HandlerSettings("python", (name,), **changes), path=ROOT)


async def until(said: Callable[[], Any]) -> Any:
    """Wait until it is so, and return what it says; the scene has the time limit."""
    while not (answer := said()):
        await asyncio.sleep(0.02)
    return answer


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@asynccontextmanager
async def hosting(config: Config, *leases: Lease) -> AsyncIterator[ExecutorSupervisor]:
    async with asyncio.timeout(PATIENCE_SECONDS), ExecutorSupervisor(config) as executor:
        executor.shared_state.deadline = now() + 3600
        executor.submit(enumerate(leases))
        yield executor


async def ended(executor: ExecutorSupervisor) -> Outcome:
    """Wait for a final outcome."""
    while True:
        for outcome in await executor.outcomes():
            if outcome.final:
                return outcome


# What a module does while it is imported.


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Config]:
    monkeypatch.setattr(supervisor, "START_BACKOFF_SECONDS", (0.0,) * (STARTS_MAX - 1))
    monkeypatch.setenv("STRIPEDJOB_TEST_STARTS", str(tmp_path / "starts"))

    def write(text: str) -> Config:
        head = 'import os, signal, sys\nopen(os.environ["STRIPEDJOB_TEST_STARTS"], "a").write("x")\n'
        head += 'starts = os.path.getsize(os.environ["STRIPEDJOB_TEST_STARTS"])\n'
        (tmp_path / "made.py").write_text(f"{head}{text}\ndef act(unit): pass\n")
        return replace(calling("made:act"), path=str(tmp_path))

    return write


@pytest.mark.parametrize("death", ["os.kill(os.getpid(), signal.SIGKILL)", "os._exit(0)", "os._exit(3)", "os.abort()"])
def test_an_executor_that_dies_while_it_starts_is_started_again(module: Callable[[str], Config], death: str) -> None:
    assert run([lease("a", 1)], module(f"if starts < 3: {death}"))[0].tried == 1


@pytest.mark.parametrize(
    ("death", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "died of SIGKILL"),
        ("os._exit(3)", "exited with code 3"),
        ("os._exit(0)", "exited with code 0"),
    ],
)
def test_one_that_always_dies_while_it_starts_is_named(
    module: Callable[[str], Config], death: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(HandlerError, match=f"{words} while it started, {STARTS_MAX} times in a row"):
        run([], module(death))
    assert len((tmp_path / "starts").read_text()) == STARTS_MAX


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = {}['missing']", r"KeyError: 'missing' \(made\.py:4 in <module>\)"),
        ("sys.exit('usage: made.py FILE')", r"SystemExit: usage: made\.py FILE \(made\.py:4 in <module>\)"),
        ("raise KeyboardInterrupt", r"KeyboardInterrupt \(made\.py:4 in <module>\)"),
        ("raise ValueError('caf\\udce9\\0')", r"ValueError: caf\?. \(made\.py:4"),
        ("def f(): raise ValueError\nf()", r"ValueError \(made\.py:4 in f, from made\.py:5 in <module>\)"),
        ("import no_such_module", r"ModuleNotFoundError: No module named 'no_such_module' \(made\.py:4"),
        ("syntax error", r"SyntaxError"),
    ],
)
def test_a_module_that_cannot_be_imported_is_named_with_its_line_and_not_tried_again(
    module: Callable[[str], Config], text: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(HandlerError, match=words):
        run([], module(text))
    starts = tmp_path / "starts"
    assert not starts.exists() or starts.read_text() == "x"


def test_a_child_that_a_module_forks_while_it_is_imported_ends_there(module: Callable[[str], Config]) -> None:
    assert run([lease("a", 1, 2)], module("if os.fork(): os.wait()"))[0].tried == 2


# Children that a handler forks.


CHILDREN = {"return": 0, "raise": 1, 0: 0, 3: 3, "words": 1, "extend": 0}  # how it comes back: its exit code


@pytest.mark.parametrize("function", ["forks", "forks_async"])
def test_a_forked_child_that_comes_back_ends_and_says_nothing(
    function: str, notes: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    outcome = run([lease("a", *CHILDREN)], calling(function))[0]
    assert (outcome.tried, outcome.faults) == (len(CHILDREN), ())
    assert notes.read_text().splitlines() == [f"{i} {code}" for i, code in enumerate(CHILDREN.values(), 1)]
    err = capfd.readouterr().err
    assert err.count("ValueError: in the child") == 1
    assert "\nwords\n" in err


def test_an_executor_that_died_is_missed_though_a_child_of_it_lives(notes: Path) -> None:
    try:
        outcome = run([lease("a", 1)], calling("leaves_a_child"))[0]
        assert outcome.faults == (Fault(0, Verdict.CRASH, "the handler's process exited with code 9"),)
    finally:
        for line in notes.read_text().split():
            os.kill(int(line), signal.SIGKILL)


# What a handler prints, and what is done at exit.


def test_what_a_handler_prints_is_on_stderr_in_whole_lines(capfd: pytest.CaptureFixture[str]) -> None:
    run([lease("a", 1, 2)], calling("prints"))
    out, err = capfd.readouterr()
    assert out == ""
    lines = [f"{word} {unit}" for unit in (1, 2) for word in ("said", "complained", "told")]
    assert [line for line in err.splitlines() if line in lines] == lines


@pytest.mark.parametrize("function", ["at_exit", "at_exit_async"])
@pytest.mark.parametrize("slots", [1, 3])
def test_an_idle_executor_ends_in_good_order(function: str, slots: int, notes: Path) -> None:
    run([lease("a", 1)], replace(calling(function), slots=slots))
    assert notes.read_text() == "exit after 1\n"


def test_an_exit_that_hangs_is_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "EXIT_SECONDS_MAX", 0.1)
    assert run([lease("a", 1)], calling("hangs_at_exit"))[0].tried == 1


# What it must not see.


@pytest.mark.parametrize("kind", ["python", "exec"])
def test_handlers_do_not_inherit_our_urls(kind: str, notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STRIPEDJOB_POSTGRES_URL", "STRIPEDJOB_LOCK_URL", "STRIPEDJOB_SPEC", "STRIPEDJOB_PLAN"):
        monkeypatch.setenv(name, "postgresql://app:secret@db/app")
    monkeypatch.setenv("PGHOST", "of the user")
    config = calling("shows_environment")
    if kind == "exec":
        script = f"env | sed 's/=.*//' | grep -e '^STRIPEDJOB' -e '^PG' | sort | tr '\\n' ' ' >> {notes}"
        config = Config(HandlerSettings("exec", ("sh", "-c", script)))
    run([lease("a", "STRIPEDJOB"), lease("b", "PG")], config)
    names = notes.read_text().split()
    assert set(names) == {"PGHOST", hostile.TRACE_FILE} | {name for name in names if name in os.environ} - {
        "STRIPEDJOB_POSTGRES_URL",
        "STRIPEDJOB_LOCK_URL",
        "STRIPEDJOB_SPEC",
        "STRIPEDJOB_PLAN",
    }


# Leases that are lost, and times that are over.


def test_what_was_handed_over_and_forgotten_never_starts(notes: Path) -> None:
    """Also where the executor is not ready yet, which is where it matters: the worker may have new leases by then."""

    async def scene() -> None:
        async with hosting(calling("counts")) as executor:
            await executor.kill()
            await until(lambda: not executor._ready)
            executor.submit([(1, lease("lost", 1))])
            await executor.kill()
            executor.submit([(2, lease("lost too", 1))])
            executor.forget()
            executor.submit([(3, lease("ours", 1))])
            outcome = await ended(executor)
            assert (outcome.key, outcome.tried) == (3, 1)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await executor.outcomes()

    asyncio.run(scene())
    assert notes.read_text() == "ours 1\n"


def test_what_runs_ends_with_its_lease_and_nobody_hears_of_it(notes: Path) -> None:
    async def scene() -> None:
        async with hosting(calling("pauses"), lease("a", 3600)) as executor:
            pids = await until(lambda: notes.read_text().split())
            await executor.kill()
            await until(lambda: all(is_gone(int(pid)) for pid in pids))
            executor.submit([(7, lease("b", 0))])
            outcome = await ended(executor)
            assert (outcome.key, outcome.faults) == (7, ())

    asyncio.run(scene())


def test_commands_end_with_their_executor_whenever_that_is_killed() -> None:
    """Also in the moment in which they are made."""
    mark, rng = f"{3600 + os.getpid() / 1e7:.7f}", random.Random(7)

    async def scene() -> None:
        async with hosting(Config(HandlerSettings("exec", ("sleep", mark)), 4)) as executor:
            for first in range(0, 60, 4):
                await until(lambda: executor._ready)
                executor.submit([(first + n, lease(f"r{n}", 1)) for n in range(4)])
                await asyncio.sleep(rng.uniform(0, 0.05))
                await executor.kill()
            await until(lambda: not commands(mark))

    asyncio.run(scene())


def commands(mark: str) -> list[int]:
    """Return the processes that run `sleep` for exactly so long."""
    found = subprocess.run(["pgrep", "-f", f"sleep {mark}"], capture_output=True, text=True, check=False)
    return [int(pid) for pid in found.stdout.split()]


@pytest.mark.parametrize("function", ["pauses", "pauses_async"])
def test_an_executor_ends_itself_where_its_main_process_does_not(
    function: str, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watch of the main process is stopped here, as it is with that process; its end is nobody's fault."""
    monkeypatch.setattr(supervisor, "WATCH_SECONDS", 3600)

    async def scene() -> Outcome:
        async with hosting(calling(function), lease("a", 3600)) as executor:
            pid, child = await until(lambda: notes.read_text().split())
            executor.shared_state.kill_at = now() + 0.1
            outcome = await ended(executor)
            assert is_gone(int(pid))
            await until(lambda: child == "0" or is_gone(int(child)))
            assert not executor.shared_state.is_overdue
            return outcome

    outcome = asyncio.run(scene())
    assert (outcome.tried, outcome.faults, outcome.suspect) == (0, (), False)


@pytest.mark.parametrize("watch_seconds", [supervisor.WATCH_SECONDS, 3600], ids=["by its watch", "by itself"])
@pytest.mark.parametrize("deadline", [1.0, 0.0], ids=["at work", "draining"])
def test_what_is_stopped_since_its_time_is_over_is_told_of(
    deadline: float,
    watch_seconds: float,
    notes: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It begins again, which a person has to be able to explain."""
    monkeypatch.setattr(supervisor, "WATCH_SECONDS", watch_seconds)

    async def scene() -> None:
        async with hosting(calling("pauses"), lease("a", 3600)) as executor:
            await until(notes.read_text)
            executor.shared_state.deadline = deadline
            executor.shared_state.kill_at = now()
            await ended(executor)

    asyncio.run(scene())
    (told,) = caplog.records
    assert told.message == (supervisor.NOT_RENEWED if deadline else supervisor.NOT_DRAINED)
    assert told.__dict__["calls"] == 1


def test_an_executor_whose_time_is_extended_goes_on(notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "WATCH_SECONDS", 3600)

    async def scene() -> None:
        async with hosting(calling("pauses"), lease("a", 2.5)) as executor:
            executor.shared_state.kill_at = now() + 1.5
            await until(notes.read_text)
            executor.shared_state.kill_at = now() + 3600
            assert (await ended(executor)).tried == 1

    asyncio.run(scene())


def test_units_go_back_where_the_time_is_over_before_the_executor_is_ready(module: Callable[[str], Config]) -> None:
    config = module("if starts > 1: signal.pause()")

    async def scene() -> None:
        async with hosting(config) as executor:
            await executor.kill()
            await until(lambda: not executor._ready)
            executor.submit([(1, lease("a", 1))])
            executor.shared_state.kill_at = now()
            outcome = await ended(executor)
            assert (outcome.key, outcome.tried, outcome.faults) == (1, 0, ())

    asyncio.run(scene())


def test_a_time_out_has_a_second_line_behind_it(notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that keeps its time-out by itself, in a process that is stopped, and so does not."""
    monkeypatch.setattr(supervisor, "SECOND_LINE_SECONDS", 0.2)
    handler = HandlerSettings("exec", ("sh", "-c", f"echo $PPID > {notes}; exec sleep 3600"), timeout_seconds=1.0)

    async def scene() -> Outcome:
        async with hosting(Config(handler), lease("a", 1)) as executor:
            os.kill(int(await until(notes.read_text)), signal.SIGSTOP)
            return await ended(executor)

    (fault,) = asyncio.run(scene()).faults
    assert (fault.verdict, fault.reason) == (Verdict.RETRY, "it ran over its 1 s and was stopped")


# What the executor itself meets.


@pytest.mark.usefixtures("notes")
def test_an_outcome_that_nobody_waits_for_is_ignored() -> None:
    async def scene() -> None:
        async with hosting(calling("counts")) as executor:
            executor._take([Outcome(99, 0, 1, (), final=True)])
            executor.submit([(1, lease("a", 1))])
            assert (await ended(executor)).key == 1

    asyncio.run(scene())


def test_a_host_whose_own_task_fails_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        async with hosting(calling("counts")) as executor:
            monkeypatch.setattr(executor, "_take", lambda _: 1 / 0)
            executor.submit([(1, lease("a", 1))])
            with pytest.raises(ZeroDivisionError):
                await executor.outcomes()

    asyncio.run(scene())
