"""spec.handler.around: a context manager of the user's around each call of the handler."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.support import arounds
from tests.support.leases import lease, run
from tests.support.runs import stripedjob
from tests.support.worker_env import ROOT, Site

from stripedjob.runtime.executor.supervisor import ExecutorSupervisor, HandlerError
from stripedjob.runtime.executor.wire import Config
from stripedjob.runtime.handlers.settings import HandlerSettings
from stripedjob.runtime.outcome import Verdict
from stripedjob.runtime.worker.decide import RetryPolicy

if TYPE_CHECKING:
    from stripedjob.runtime.outcome import Outcome

pytestmark = pytest.mark.migrated


def settings(function: str, around: str, **options: Any) -> HandlerSettings:
    handlers, managers = "tests.support.handlers:", "tests.support.arounds:"
    return HandlerSettings("python", (handlers + function,), around=managers + around, **options)


def config(function: str, around: str, slots: int = 1, **options: Any) -> Config:
    return Config(settings(function, around, **options), slots, path=str(ROOT))


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "log"
    path.touch()
    monkeypatch.setenv(arounds.LOG, str(path))
    return path


WAYS = [("act", "noted"), ("act_async", "noted_async"), ("act_async", "noted")]


@pytest.mark.parametrize(("function", "around"), WAYS)
@pytest.mark.parametrize("slots", [1, 3])
def test_it_is_entered_and_left_around_each_call(log: Path, function: str, around: str, slots: int) -> None:
    found = run([lease("a", 1, "error"), lease("b", "hold")], config(function, around, slots))
    assert [one.verdict for one in found[0].faults + found[1].faults] == [Verdict.RETRY, Verdict.HOLD]
    lines = log.read_text().splitlines()
    assert [line for line in lines if line.endswith("a")] == ["before a", "after a", "before a", "ValueError a"]
    assert [line for line in lines if line.endswith("b")] == ["before b", "Hold b"]


def test_a_class_can_be_one(log: Path) -> None:
    run([lease("a", 1)], config("act", "Noted"))
    assert log.read_text().splitlines() == ["before a", "after a"]


def test_it_gets_all_units_of_a_resource_where_the_handler_does(log: Path) -> None:
    run([lease("a", 1, 2)], config("act_batch", "noted", per_resource=True))
    assert log.read_text().splitlines() == ["before a+a", "after a+a"]


def fault(found: dict[int, Outcome], key: int) -> tuple[Verdict, str]:
    (one,) = found[key].faults
    return one.verdict, one.reason


def test_what_it_raises_is_the_handlers_own() -> None:
    found = run([lease("bad", 1), lease("late", 1), lease("good", 1)], config("act", "refusing"))
    assert fault(found, 0) == (Verdict.HOLD, "not this one")
    verdict, reason = fault(found, 1)
    assert (verdict, reason.partition(" (")[0]) == (Verdict.RETRY, "ValueError: too late")
    assert "arounds.py:" in reason
    assert found[2].faults == ()


def test_what_a_handler_raised_is_named_where_it_was_raised(log: Path) -> None:
    _, reason = fault(run([lease("a", "error")], config("act", "noted")), 0)
    assert "handlers.py:" in reason
    assert log.read_text()


def test_a_unit_whose_error_it_swallows_is_done() -> None:
    assert run([lease("a", "error", "hold")], config("act", "forgiving"))[0].faults == ()


@pytest.mark.parametrize("function", ["act", "act_async"])
def test_a_child_that_comes_back_out_of_the_handler_ends_there(log: Path, function: str) -> None:
    found = run([lease("a", 1, 2)], config(function, "forking"))
    assert (found[0].tried, found[0].faults) == (2, ())
    assert log.read_text().splitlines() == ["after a", "after a"]


def test_what_it_gives_has_to_be_a_context_manager() -> None:
    verdict, reason = fault(run([lease("a", 1)], config("act", "nothing")), 0)
    assert verdict is Verdict.RETRY
    assert "context manager" in reason


BROKEN = {
    "missing": "has no missing",
    "NOT_A_FUNCTION": "it is a int, not a function",
    "two": "it is called with the unit, but is two(",
    "generator": "decorate it with contextlib.contextmanager",
    "coroutine": "decorate it with contextlib.asynccontextmanager",
    "noted_async": "the handler is no coroutine function",
}


@pytest.mark.parametrize("around", BROKEN)
def test_one_that_cannot_be_used_breaks_the_handler(around: str) -> None:
    async def scene() -> None:
        async with ExecutorSupervisor(config("act", around)):
            pass

    with pytest.raises(HandlerError) as raised:
        asyncio.run(scene())
    assert f"handler around: tests.support.arounds:{around} cannot be loaded: " in str(raised.value)
    assert BROKEN[around] in str(raised.value)


@pytest.mark.parametrize("function", ["record", "record_async"])
def test_it_is_inside_of_the_transaction(fresh_database: str, log: Path, function: str) -> None:
    site = Site(fresh_database, policy=RetryPolicy(attempts_max=1))
    site.fill(5, 1)
    site.sql("update striped.unit set payload = '\"error\"' where id = 3")
    site.drain(settings(function, "noted", database=site.database))
    assert site.sql("select count(*) from effect") == [(4,)]
    assert site.sql("select state::text from striped.unit") == [("dead",)]
    assert log.read_text().splitlines().count("after r0") == 4
    site.fill(1, 1)
    site.sql(
        "update striped.unit set resource = 'late' where state = 'ready'; update striped.wake set resource = 'late'"
    )
    site.drain(settings("record", "refusing", database=site.database))
    assert site.sql("select count(*) from effect") == [(4,)]


def job_file(folder: Path, around: str) -> Path:
    (folder / "work.py").write_text("def apply(unit): pass\n")
    (folder / "tracing.py").write_text("def traced(): pass\n")
    path = folder / "job.yaml"
    path.write_text(
        "apiVersion: striped.dev/v1alpha1\nkind: StripedJob\nmetadata: {name: a}\n"
        f"spec: {{handler: {{python: 'work:apply', around: '{around}'}}}}\n"
    )
    return path


@pytest.mark.parametrize("command", [["validate"], ["run", "--until-empty"]], ids=["validate", "run"])
def test_it_is_looked_at_before_the_engines_start(tmp_path: Path, command: list[str]) -> None:
    done = stripedjob(command[0], job_file(tmp_path, "tracing:traced"), *command[1:])
    assert done.returncode == 78
    words = "handler around: tracing:traced cannot be loaded: TypeError: it is called with the unit, but is traced()"
    assert words in done.stderr
    assert not (tmp_path / ".stripedjob").exists()


def test_one_whose_module_is_elsewhere_is_not_looked_at(tmp_path: Path) -> None:
    path = job_file(tmp_path, "nowhere:traced")
    assert "its handler was not looked at: there is no module nowhere here" in stripedjob("validate", path).stdout
    done = stripedjob("run", path, "--until-empty")
    assert (done.returncode, "there is no module nowhere; it belongs beside FILE" in done.stderr) == (78, True)
