"""Whatever a handler raises becomes a fault that can be pickled, and stored by Postgres."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from tests.support import hostile

from stripedjob.runtime.executor import faults
from stripedjob.runtime.executor.faults import REASON_CHARACTERS_MAX, TRACE_BYTES_MAX, fault_of, import_fault
from stripedjob.runtime.handlers.results import Finishing
from stripedjob.runtime.outcome import Fault, Verdict
from stripedjob.unit import RETRY_SECONDS_MAX, Dead, Hold, Retry, delay_seconds


def of(function: Any, *arguments: Any) -> Fault:
    """Return the fault of what a handler raises, as the executor calls it, once it has crossed to the main process."""
    try:
        Finishing(function)(*arguments)
    except BaseException as error:  # noqa: BLE001
        fault: Fault = pickle.loads(pickle.dumps(fault_of(3, error)))  # noqa: S301
        return fault
    raise AssertionError("it raised nothing")


def check_storable(fault: Fault) -> None:
    for text in (fault.reason, fault.trace):
        assert type(text) is str
        assert "\0" not in text
        json.dumps(text).encode()
        text.encode()
    assert 0 < len(fault.reason) <= REASON_CHARACTERS_MAX
    assert len(fault.trace.encode()) <= TRACE_BYTES_MAX
    assert fault.after_seconds is None or type(fault.after_seconds) is float


def thrown(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize("name", hostile.EXCEPTIONS)
def test_any_exception_becomes_a_fault_that_can_be_stored(name: str) -> None:
    fault = of(lambda: thrown(hostile.EXCEPTIONS[name]()))
    check_storable(fault)
    assert (fault.index, fault.verdict) == (3, Verdict.RETRY)
    assert name == "traceless" or "tests/support/hostile.py" in fault.trace or "test_faults.py" in fault.trace
    import_fault(hostile.EXCEPTIONS[name]()).encode()


@pytest.mark.parametrize("kind", [Retry, Hold, Dead])
@pytest.mark.parametrize("name", hostile.WORDS)
def test_the_words_of_a_verdict_can_be_stored(kind: type[Exception], name: str) -> None:
    fault = of(lambda: thrown(kind(hostile.WORDS[name])))
    assert not fault.trace
    assert fault.verdict.value == kind.__name__.lower()
    check_storable(fault if fault.reason else Fault(0, fault.verdict, "-"))


@pytest.mark.parametrize("name", hostile.DELAYS)
def test_a_delay_is_a_number_or_a_time_and_at_most_a_year(name: str) -> None:
    after, seconds = hostile.DELAYS[name]
    fault = of(lambda: thrown(Retry(after=after)))
    check_storable(fault)
    assert fault.after_seconds == seconds <= RETRY_SECONDS_MAX


@pytest.mark.parametrize("name", hostile.NO_DELAYS)
def test_what_is_no_delay_is_refused_where_it_is_raised(name: str) -> None:
    with pytest.raises((ValueError, RuntimeError)):
        delay_seconds(hostile.NO_DELAYS[name])
    fault = of(lambda: thrown(Retry(after=hostile.NO_DELAYS[name])))
    check_storable(fault)
    assert (fault.verdict, fault.after_seconds) == (Verdict.RETRY, None)
    assert "finite number of seconds >= 0" in fault.reason or "RuntimeError" in fault.reason


@pytest.mark.parametrize("name", [*hostile.NO_DELAYS, "moody"])
def test_a_delay_that_a_subclass_made_up_falls_back_to_the_backoff(name: str) -> None:
    error = hostile.Moody() if name == "moody" else hostile.Badly(hostile.NO_DELAYS[name])
    fault = of(lambda: thrown(error))
    check_storable(fault)
    assert (fault.verdict, fault.after_seconds) == (Verdict.RETRY, None)
    assert "its after_seconds cannot be used" in fault.reason


def test_a_retry_that_was_never_initialized_is_a_retry() -> None:
    assert of(lambda: thrown(hostile.Bare())).verdict is Verdict.RETRY


def fails_in_a_library() -> None:
    json.loads("{")


def fails_after_another() -> None:
    try:
        fails_in_a_library()
    except ValueError:
        raise KeyError("currency") from None


def fails_because_of_another() -> None:
    try:
        fails_in_a_library()
    except ValueError as error:
        raise KeyError("currency") from error


def test_the_reason_names_the_innermost_line_of_the_users_code() -> None:
    fault = of(fails_in_a_library)
    line = fails_in_a_library.__code__.co_firstlineno + 1
    assert fault.reason.endswith(f" (test_faults.py:{line} in fails_in_a_library)")
    assert fault.trace.startswith(f'  File "{__file__}", line {line}, in fails_in_a_library\n    json.loads("{{")\n')
    assert "json/decoder.py" in fault.trace
    assert faults.OURS not in fault.trace


def test_a_trace_names_causes_and_the_members_of_a_group() -> None:
    line = fails_in_a_library.__code__.co_firstlineno + 1
    place = f"(test_faults.py:{line} in fails_in_a_library)"
    assert "after JSONDecodeError: Expecting property name" in of(fails_because_of_another).trace
    assert of(fails_because_of_another).trace.endswith(place)
    assert "JSONDecodeError" not in of(fails_after_another).trace
    group = ExceptionGroup("both", [KeyError("one"), KeyError("two")])
    assert of(lambda: thrown(group)).trace.endswith("with KeyError: 'one'\nwith KeyError: 'two'")


def plunge(levels: int) -> None:
    if levels:
        plunge(levels - 1)
    else:
        json.loads("{" + "x" * 100_000)


def test_a_long_trace_is_cut_and_keeps_the_innermost_line_of_the_users_code() -> None:
    fault = of(plunge, 500)
    check_storable(fault)
    line = plunge.__code__.co_firstlineno + 4
    assert fault.reason.endswith(f" (test_faults.py:{line} in plunge)")
    assert f'  File "{__file__}", line {line}, in plunge' in fault.trace


def test_the_words_are_cut_before_the_place() -> None:
    assert of(lambda: thrown(ValueError("x" * 10_000))).reason.endswith(" in thrown)")
