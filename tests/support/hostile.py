"""What users' code may raise, return and do, and ours has to bear."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import datetime as dt
import functools
import os
import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from stripedjob.unit import Dead, Hold, Retry, Unit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

TRACE_FILE = "STRIPEDJOB_TEST_FILE"  # where handlers here write down what they did


def note(words: str) -> None:
    with Path(os.environ[TRACE_FILE]).open("a") as file:
        file.write(words + "\n")


class Word(str):
    """A text with a mind of its own."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        raise RuntimeError("not to be pickled")

    def encode(self, *_: Any) -> NoReturn:
        raise RuntimeError("not to be encoded")

    def __getitem__(self, _: Any) -> NoReturn:
        raise RuntimeError("not to be cut")


class SaysWord(Exception):  # noqa: N818
    def __str__(self) -> str:
        return Word("a word")


class Unspeakable(Exception):  # noqa: N818
    def __str__(self) -> NoReturn:
        raise SystemExit(3)

    __repr__ = __str__


class NoText(Exception):  # noqa: N818
    def __str__(self) -> str:
        return 7  # type: ignore[return-value]  # noqa: PLE0307


class Masked(Exception):  # noqa: N818
    @property  # type: ignore[misc]
    def __class__(self) -> NoReturn:  # type: ignore[override]
        raise RuntimeError("nobody's business")

    def __reduce__(self) -> NoReturn:
        raise RuntimeError("not to be pickled")


class Traceless(Exception):  # noqa: N818
    @property
    def __traceback__(self) -> NoReturn:  # type: ignore[override]
        raise RuntimeError("nobody's business")


class Nameless(type):
    @property
    def __name__(cls) -> NoReturn:  # type: ignore[override]
        raise RuntimeError("nobody's business")


class OfNoName(Exception, metaclass=Nameless):  # noqa: N818
    pass


class Circular(Exception):  # noqa: N818
    def __init__(self) -> None:
        super().__init__("round")
        self.__context__ = ValueError("and round")
        self.__context__.__context__ = self


def deep() -> NoReturn:
    deep()
    raise AssertionError


def recursion() -> BaseException:
    try:
        deep()
    except RecursionError as error:
        return error


EXCEPTIONS: dict[str, Callable[[], BaseException]] = {
    "surrogate": lambda: ValueError("cannot parse " + os.fsdecode(b"caf\xe9.csv")),
    "nul": lambda: ValueError("a\0b"),
    "huge": lambda: ValueError("x" * 5_000_000),
    "huge surrogates": lambda: ValueError("\udce9" * 1_000_000),
    "word": SaysWord,
    "word given": lambda: ValueError(Word("a word")),
    "unspeakable": Unspeakable,
    "no text": NoText,
    "masked": Masked,
    "traceless": Traceless,
    "nameless": OfNoName,
    "circular": Circular,
    "recursion": recursion,
    "group": lambda: ExceptionGroup("two", [ValueError("one"), Unspeakable()]),
    "base group": lambda: BaseExceptionGroup("two", [KeyboardInterrupt("one"), SystemExit(3)]),
    "exit": lambda: SystemExit("\udce9"),
    "interrupt": KeyboardInterrupt,
    "cancelled": asyncio.CancelledError,
    "generator exit": GeneratorExit,
    "stop": lambda: StopIteration(3),
    "stop async": StopAsyncIteration,
    "memory": MemoryError,
    "bytes": lambda: ValueError(b"\xff\xfe"),
}


class Badly(Retry):
    """A retry whose delay was never looked at."""

    def __init__(self, after: Any) -> None:
        super().__init__("badly")
        self.after_seconds = after


class Bare(Retry):
    def __init__(self) -> None:
        pass


class Moody(Retry):
    @property
    def after_seconds(self) -> NoReturn:
        raise Unspeakable

    @after_seconds.setter
    def after_seconds(self, _: Any) -> None:
        pass


class Stubborn(float):
    """A number that cannot be pickled."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        raise RuntimeError("not to be pickled")

    def __repr__(self) -> NoReturn:
        raise RuntimeError("nobody's business")


WORDS: dict[str, str] = {
    "nul": "a\0b",
    "surrogate": "\udce9",
    "huge": "x" * 1_000_000,
    "word": Word("a word"),
    "nothing": "",
}
NO_DELAYS: dict[str, Any] = {
    "text": "60",
    "bytes": b"60",
    "negative": -5,
    "nan": float("nan"),
    "inf": float("inf"),
    "minus inf": float("-inf"),
    "complex": 5j,
    "list": [5],
    "decimal nan": Decimal("nan"),
    "decimal snan": Decimal("snan"),
    "decimal inf": Decimal("inf"),
    "negative time": dt.timedelta(seconds=-1),
    "moment": dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    "object": object(),
    "negative without words": Stubborn(-1),
}
DELAYS: dict[str, tuple[Any, float]] = {
    "int": (5, 5.0),
    "zero": (0, 0.0),
    "decimal": (Decimal("1.5"), 1.5),
    "time": (dt.timedelta(minutes=1), 60.0),
    "stubborn": (Stubborn(2), 2.0),
    "huge": (1e15, 366 * 86_400.0),
    "huge int": (10**400, 366 * 86_400.0),
    "huge decimal": (Decimal("1e400"), 366 * 86_400.0),
    "longest time": (dt.timedelta.max, 366 * 86_400.0),
}


def raises(unit: Unit) -> None:
    """Raise what the payload names: of an exception its key, of a retry ["kind", key]."""
    match unit.payload:
        case str():
            error = EXCEPTIONS[unit.payload]()
            raise error
        case ["retry", key]:
            raise Retry(after=DELAYS[key][0])
        case ["no retry", key]:
            raise Retry(after=NO_DELAYS[key])
        case ["badly", key]:
            raise Badly(NO_DELAYS[key])
        case ["bare"]:
            raise Bare
        case ["moody"]:
            raise Moody
        case ["hold", words]:
            raise Hold(Word(words))
        case ["dead", words]:
            raise Dead(Word(words))


async def raises_async(unit: Unit) -> None:
    await asyncio.sleep(0)
    raises(unit)


def plainly(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate as many do: the wrapper is a plain function."""

    @functools.wraps(function)
    def wrapper(*arguments: Any) -> Any:
        return function(*arguments)

    return wrapper


async def ran(unit: Unit, *_: Any) -> None:
    await asyncio.sleep(0)
    note(f"ran {unit.id}")


class Asynchronous:
    async def __call__(self, unit: Unit, *_: Any) -> None:
        await ran(unit)

    async def method(self, unit: Unit, *_: Any) -> None:
        await ran(unit)


class Later:
    """An awaitable that is no coroutine."""

    def __init__(self, unit: Unit, *_: Any) -> None:
        self.unit = unit

    def __await__(self) -> Any:
        return ran(self.unit).__await__()


async def of_awaitable(unit: Unit, *_: Any) -> Awaitable[None]:
    await asyncio.sleep(0)
    return ran(unit)


def runs_itself(unit: Unit, *_: Any) -> None:
    asyncio.run(ran(unit))


def generator(unit: Unit, *_: Any) -> Iterator[int]:
    note(f"ran {unit.id}")
    yield 1


async def async_generator(unit: Unit, *_: Any) -> AsyncIterator[int]:
    note(f"ran {unit.id}")
    yield 1


async def of_generator(unit: Unit, *_: Any) -> Iterator[int]:
    return generator(unit)


def future(unit: Unit, *_: Any) -> concurrent.futures.Future[None]:
    del unit
    return concurrent.futures.Future()


# What these return is run; each notes "ran" and the unit.
wrapped = plainly(ran)
partial = functools.partial(ran)
partial_object = functools.partial(Asynchronous())
an_object = Asynchronous()
method = Asynchronous().method
wrapped_later = plainly(Later)
wrapped_twice = plainly(plainly(ran))
wrapped_itself = functools.wraps(ran)(runs_itself)
RUN = (
    *("ran", "wrapped", "partial", "partial_object", "an_object", "method", "wrapped_later", "wrapped_twice"),
    *("of_awaitable", "wrapped_itself"),
)
# What these return never runs.
mapped = lambda unit, *_: map(note, [f"ran {unit.id}"])  # noqa: E731
expression = lambda unit, *_: (unit.extend(word) for word in [unit.id])  # noqa: E731
NOT_RUN = ("generator", "async_generator", "of_generator", "mapped", "expression", "future")


def loops(unit: Unit) -> Awaitable[None]:
    """Note the event loop that the unit is run in."""

    async def work() -> None:
        note(f"{unit.id} {id(asyncio.get_running_loop())}")

    return work()


def forks(unit: Unit) -> None:
    """Fork, and let the child come back as the payload says; note what became of it."""
    child = os.fork()
    if child == 0:
        match unit.payload:
            case "extend":
                with contextlib.suppress(RuntimeError):
                    unit.extend(5)
                    note("extended")
                return
            case "return":
                return
            case "raise":
                raise ValueError("in the child")
            case code:
                sys.exit(code)
    note(f"{unit.id} {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}")


async def forks_async(unit: Unit) -> None:
    await asyncio.sleep(0)
    forks(unit)


def leaves_a_child(unit: Unit) -> None:
    """Die, and leave a child behind that has left the group and is noted."""
    del unit
    ours, theirs = os.pipe()
    if os.fork() == 0:
        os.setsid()
        note(str(os.getpid()))
        os.close(theirs)
        time.sleep(3600)
    os.close(theirs)
    os.read(ours, 1)
    os._exit(9)


def prints(unit: Unit) -> None:
    """Print to both streams, and have a program print."""
    print("said", unit.id)  # noqa: T201
    print("complained", unit.id, file=sys.stderr)  # noqa: T201
    subprocess.run(["echo", "told", str(unit.id)], check=True)


def at_exit(unit: Unit) -> None:
    """Have something done at the exit."""
    atexit.register(note, f"exit after {unit.id}")


async def at_exit_async(unit: Unit) -> None:
    at_exit(unit)


def hangs_at_exit(unit: Unit) -> None:
    """Have the exit hang."""
    del unit
    atexit.register(time.sleep, 3600)


def shows_environment(unit: Unit) -> None:
    """Write down the names of the variables that begin as the payload says."""
    note(" ".join(sorted(name for name in os.environ if name.startswith(unit.payload))))


def pauses(unit: Unit) -> None:
    """Note this process and a child of it, and take as long as the payload says."""
    child = subprocess.Popen(["sleep", "3600"])
    note(f"{os.getpid()} {child.pid}")
    time.sleep(unit.payload)


async def pauses_async(unit: Unit) -> None:
    note(f"{os.getpid()} 0")
    await asyncio.sleep(unit.payload)


def counts(unit: Unit) -> None:
    """Note the unit."""
    note(f"{unit.resource} {unit.id}")


def dies(unit: Unit) -> None:
    """Die at once."""
    del unit
    os.kill(os.getpid(), signal.SIGKILL)
