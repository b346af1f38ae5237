"""From what a user's code raised to a Fault: a verdict, and words that can be stored, whatever the exception is like.

Called by the executor, so that nothing of the user's leaves its process. An exception's class may be broken in any way:
each look at it is guarded, and what cannot be read is left out.
"""

import linecache
import sysconfig
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from stripedjob.runtime.handlers.around import AroundError
from stripedjob.runtime.outcome import Fault, Verdict
from stripedjob.unit import Dead, Hold, Retry, delay_seconds

REASON_CHARACTERS_MAX = 2_000
TRACE_BYTES_MAX = 4_000
FRAMES_MAX = 20  # in a trace
LINE_CHARACTERS_MAX = 200  # of a line of source, a file's name
RELATED_MAX = 3  # exceptions named in a trace beside the one that was raised
RELATED_CHARACTERS_MAX = 300
IMPORT_FRAMES_MAX = 3  # named where a module cannot be imported
ENTRANCES = (
    "stripedjob.runtime.handlers.around",
    "stripedjob.runtime.handlers.results",
    "stripedjob.runtime.handlers.python",
)  # the user's code begins behind these
LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
SITES = ("/site-packages/", "/dist-packages/")
OURS = str(Path(__file__).parents[2])


@dataclass(frozen=True, slots=True)
class Frame:
    """One level of a traceback. `is_user`: in no library, as far as its file says."""

    file: str
    line: int
    function: str
    root: str  # the top package of its module
    source: str
    is_user: bool

    def __str__(self) -> str:
        """Return it as a reason names it."""
        return f"{self.file.rpartition('/')[2]}:{self.line} in {self.function}"

    def as_lines(self) -> str:
        """Return it as a traceback shows it."""
        head = f'  File "{self.file}", line {self.line}, in {self.function}\n'
        return f"{head}    {self.source}\n" if self.source else head


def storable(text: str, characters_max: int = REASON_CHARACTERS_MAX) -> str:
    """Return a text as Postgres and JSON take it: a plain str without NUL and half surrogates, cut to a length."""
    plain = str.encode(text, "utf-8", "replace").decode()  # unbound: a subclass of str may say what it likes
    return plain[:characters_max].replace("\0", "�")


def fault_of(index: int, error: BaseException) -> Fault:
    """Turn what a handler raised into a verdict. Never raises."""
    kind = type(error)  # what isinstance() asks, __class__, may raise
    words = _words(error)
    if issubclass(kind, Retry):
        return _retry(index, error, words)
    if issubclass(kind, Hold):
        return Fault(index, Verdict.HOLD, words or "the handler held it")
    if issubclass(kind, Dead):
        return Fault(index, Verdict.DEAD, words or "the handler gave it up")
    frames = _frames(error)
    place = f" ({own})" if (own := innermost(frames)) else ""
    reason = described(error, REASON_CHARACTERS_MAX - len(place)) + place
    return Fault(index, Verdict.RETRY, reason, trace=_trace(error, frames) if frames else "")


def import_fault(error: BaseException) -> str:
    """Say in a line why a module cannot be imported, and where: the innermost frames of the user's code first."""
    frames = [frame for frame in _frames(error) if frame.root != "importlib"]
    users = [frame for frame in frames if frame.is_user] or frames
    places = ", from ".join(str(frame) for frame in users[: -IMPORT_FRAMES_MAX - 1 : -1])
    return described(error) + (f" ({places})" if places else "")


def loading_fault(error: BaseException, handler: str) -> str:
    """Say in a line what of a handler cannot be loaded, and why."""
    if type(error) is AroundError and error.__cause__ is not None:
        return f"handler around: {error} cannot be loaded: {import_fault(error.__cause__)}"
    return f"handler {handler} cannot be loaded: {import_fault(error)}"


def described(error: BaseException, characters_max: int = REASON_CHARACTERS_MAX) -> str:
    """Return the class and the words of an exception."""
    words = _words(error)
    return storable(f"{_name(error)}: {words}" if words else _name(error), characters_max)


def innermost(frames: list[Frame]) -> Frame | None:
    """Return the last frame of the user's code: of no library, or of the package that the handler is in."""
    users = [frame for frame in frames if frame.is_user] or [frame for frame in frames if frame.root == frames[0].root]
    return users[-1] if users else None


def _retry(index: int, error: Any, words: str) -> Fault:
    try:
        after = error.after_seconds
        seconds = None if after is None else delay_seconds(after)
    except BaseException as refusal:  # noqa: BLE001 - the user's own class
        return Fault(index, Verdict.RETRY, storable(f"{words}; its after_seconds cannot be used: {described(refusal)}"))
    return Fault(index, Verdict.RETRY, words, seconds)


def _words(error: BaseException) -> str:
    try:
        return storable(str(error))
    except BaseException:  # noqa: BLE001 - the user's own class
        return ""


def _name(error: BaseException) -> str:
    try:
        return storable(type(error).__name__)
    except BaseException:  # noqa: BLE001 - the user's own metaclass
        return "an exception"


def _frames(error: BaseException, *, is_whole: bool = True) -> list[Frame]:
    """Return the frames behind our own, from the handler's to where it was raised; [] where it was not the handler.

    `is_whole`: the exception came out of the handler; one that was caught inside of it has no frames of ours.
    """
    try:
        return _walk(error.__traceback__, is_whole=is_whole)
    except BaseException:  # noqa: BLE001 - the user's own class, or a loader of modules
        return []


def _walk(trace: TracebackType | None, *, is_whole: bool) -> list[Frame]:
    found = list(traceback.walk_tb(trace))
    names = [str(frame.f_globals.get("__name__", "")) for frame, _ in found]
    first = 1 + max((i for i, name in enumerate(names) if name in ENTRANCES), default=len(names) if is_whole else -1)
    frames = []
    for (frame, line), name in zip(found[first:], names[first:], strict=True):
        file = frame.f_code.co_filename
        is_library = file.startswith(("<frozen", OURS, *LIBRARIES)) or any(site in file for site in SITES)
        root = storable(name.partition(".")[0], LINE_CHARACTERS_MAX)
        place = storable(file[-LINE_CHARACTERS_MAX:]), line, storable(frame.f_code.co_qualname, LINE_CHARACTERS_MAX)
        source = linecache.getline(file, line, frame.f_globals).strip()
        frames.append(Frame(*place, root, storable(source, LINE_CHARACTERS_MAX), not is_library))
    return frames


def _trace(error: BaseException, frames: list[Frame]) -> str:
    """Return a traceback within its bound: where there is too much, the innermost frame of the user's stays longest."""
    end = f"{described(error, RELATED_CHARACTERS_MAX)}\n{_related(error)}"
    left: float = TRACE_BYTES_MAX - len(end.encode())
    own = innermost(frames)
    chosen = set()
    ranks = sorted(range(len(frames)), key=lambda i: (frames[i] is not own, not frames[i].is_user, -i))
    for i in ranks[:FRAMES_MAX]:
        left -= len(frames[i].as_lines().encode())
        if left < 0:
            break
        chosen.add(i)
    return "".join(frames[i].as_lines() for i in sorted(chosen)) + end.rstrip()


def _related(error: BaseException) -> str:
    """Name what the exception was caused by, or what is in a group, a line for each."""
    try:
        inner = list(error.exceptions) if issubclass(type(error), BaseExceptionGroup) else []  # type: ignore[attr-defined]
        lines = [f"with {_located(one)}" for one in inner[:RELATED_MAX]]
        for _ in range(RELATED_MAX):
            cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
            if cause is None:
                break
            lines.append(f"after {_located(cause)}")
            error = cause
    except BaseException:  # noqa: BLE001 - the user's own class
        return ""
    return "\n".join(lines)


def _located(error: BaseException) -> str:
    own = innermost(_frames(error, is_whole=False))
    return described(error, RELATED_CHARACTERS_MAX) + (f" ({own})" if own else "")
