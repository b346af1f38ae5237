"""The process that runs the user's function, apart from the one that holds the leases.

Started by host.py with two descriptors: a socket and the board. A function that blocks its thread, the event loop
or the whole interpreter stops nothing but itself: leases are renewed elsewhere, and what hangs ends with this process.

    main → executor    Config, then lists of Task
    executor → main    Ready or Broken, then lists of Outcome
"""

import asyncio
import importlib
import inspect
import os
import pickle
import queue
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stripedjob.runtime.board import Board
from stripedjob.runtime.work import Fault, Outcome, Unit, Verdict, fault_of

LENGTH = struct.Struct("!I")
REPORT_SECONDS = 0.05  # an outcome is sent at most so late, however long the next unit takes


@dataclass(frozen=True, slots=True)
class Config:
    """What to run and how. `path` is put first on sys.path; `block`: a unit that is not done ends its lease."""

    function: str
    per_resource: bool
    slots: int
    block: bool
    path: str


@dataclass(frozen=True, slots=True)
class Task:
    """One lease to work on. `key` is the main process's name for it."""

    key: int
    resource: str
    fence: int
    ids: tuple[int, ...]
    attempts: tuple[int, ...]
    payloads: tuple[str, ...]

    def units(self) -> list[Unit]:
        """Give the units as handlers get them."""
        rows = zip(self.ids, self.attempts, self.payloads, strict=True)
        return [Unit(i, self.resource, self.fence, attempts + 1, payload) for i, attempts, payload in rows]


@dataclass(frozen=True, slots=True)
class Ready:
    """The function was found."""


@dataclass(frozen=True, slots=True)
class Broken:
    """The function cannot be had, and why."""

    reason: str


def load_function(name: str) -> Callable[..., Any]:
    """Import `pkg.mod:func`; raises ImportError, or whatever the module raises."""
    module_name, _, attribute = name.partition(":")
    found: Any = importlib.import_module(module_name)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ImportError(f"module {module_name} has no {attribute}")
        found = getattr(found, part)
    if not callable(found):
        raise TypeError(f"it is a {type(found).__name__}, not a function")
    return found  # type: ignore[no-any-return]


class Reporter:
    """Sends outcomes: at once when nothing else waits to be done, else together, at most REPORT_SECONDS late."""

    def __init__(self, send: Callable[[Any], None], busy: Callable[[], bool]) -> None:
        """Take how to send, and whether more work waits."""
        self._send, self._busy = send, busy
        self._pending: list[Outcome] = []
        self._lock = threading.Lock()
        self._some = threading.Event()
        threading.Thread(target=self._later, daemon=True).start()

    def add(self, outcome: Outcome) -> None:
        """Report an outcome."""
        with self._lock:
            self._pending.append(outcome)
        if self._busy():
            self._some.set()
        else:
            self._flush()

    def _flush(self) -> None:
        with self._lock:
            pending, self._pending = self._pending, []
            if pending:
                self._send(pending)

    def _later(self) -> None:
        while True:
            self._some.wait()
            time.sleep(REPORT_SECONDS)
            self._some.clear()
            self._flush()


class Progress:
    """What is known of one task while it runs; each report covers what came since the one before."""

    def __init__(self, task: Task, board: Board, slot: int, config: Config, reporter: Reporter) -> None:
        """Start with nothing tried."""
        self._task, self._board, self._slot, self._config, self._reporter = task, board, slot, config, reporter
        self._first = self._tried = 0
        self._faults: list[Fault] = []
        self._reported = time.monotonic()

    def may_start(self) -> bool:
        """Claim the right to start the next unit, and say so on the board; False: end here."""
        if self._config.block and any(f.verdict is not Verdict.DEAD for f in self._faults):
            return False
        now = time.monotonic()
        if now >= self._board.deadline:
            return False
        if now - self._reported > REPORT_SECONDS and self._tried > self._first:
            self.report(final=False)
        self._board.start(self._slot, self._task.key, self._tried, now)
        return True

    def ended(self, units: int, error: BaseException | None) -> None:
        """Record that the next so many units were tried, and how it ended."""
        self._board.clear(self._slot)
        if error is not None:
            self._faults += [fault_of(self._tried + i, error) for i in range(units)]
        self._tried += units

    def report(self, *, final: bool) -> None:
        """Send what came since the last report."""
        now = time.monotonic()
        self._reporter.add(
            Outcome(self._task.key, self._first, self._tried, tuple(self._faults), final, now - self._reported)
        )
        self._first, self._faults, self._reported = self._tried, [], now


def calls(task: Task, config: Config) -> list[tuple[Any, int]]:
    """Give the arguments of the function's calls, each with the number of units that it covers."""
    units = task.units()
    return [(units, len(units))] if config.per_resource else [(unit, 1) for unit in units]


def run_task(function: Callable[[Any], Any], task: Task, config: Config, progress: Progress) -> None:
    """Run one task with a function that returns its result."""
    for argument, units in calls(task, config):
        if not progress.may_start():
            break
        error: BaseException | None = None
        try:
            function(argument)
        except (Exception, SystemExit) as raised:  # noqa: BLE001 - whatever the user's code raises is an outcome
            error = raised
        progress.ended(units, error)
    progress.report(final=True)


async def run_task_async(function: Callable[[Any], Any], task: Task, config: Config, progress: Progress) -> None:
    """Run one task with a coroutine function."""
    for argument, units in calls(task, config):
        if not progress.may_start():
            break
        error: BaseException | None = None
        try:
            await function(argument)
        except (Exception, SystemExit) as raised:  # noqa: BLE001 - whatever the user's code raises is an outcome
            error = raised
        progress.ended(units, error)
    progress.report(final=True)


class Executor:
    """Reads tasks from the socket and works on `slots` of them at the same time."""

    def __init__(self, sock: socket.socket, board: Board, config: Config, function: Callable[..., Any]) -> None:
        """Take everything; nothing runs yet."""
        self._sock, self._board, self._config, self._function = sock, board, config, function

    def run(self) -> None:
        """Work until the main process hangs up."""
        if inspect.iscoroutinefunction(self._function):
            asyncio.run(self._run_async())
        else:
            self._run_threads()

    def _read(self, put: Callable[[Task], Any]) -> None:
        while (tasks := receive(self._sock)) is not None:
            for task in tasks:
                put(task)
        os._exit(0)  # the main process is gone and with it the right to go on, whatever the function is doing

    def _start(self, put: Callable[[Task], Any], is_empty: Callable[[], bool]) -> Reporter:
        threading.Thread(target=self._read, args=(put,), daemon=True).start()
        return Reporter(lambda message: send(self._sock, message), lambda: not is_empty())

    def _run_threads(self) -> None:
        tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()
        reporter = self._start(tasks.put, tasks.empty)

        def work(slot: int) -> None:
            while True:
                task = tasks.get()
                run_task(self._function, task, self._config, Progress(task, self._board, slot, self._config, reporter))

        for slot in range(1, self._config.slots):
            threading.Thread(target=work, args=(slot,), daemon=True).start()
        work(0)

    async def _run_async(self) -> None:
        tasks: asyncio.Queue[Task] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        reporter = self._start(lambda task: loop.call_soon_threadsafe(tasks.put_nowait, task), tasks.empty)

        async def work(slot: int) -> None:
            while True:
                task = await tasks.get()
                progress = Progress(task, self._board, slot, self._config, reporter)
                await run_task_async(self._function, task, self._config, progress)

        async with asyncio.TaskGroup() as group:
            for slot in range(self._config.slots):
                group.create_task(work(slot))


def send(sock: socket.socket, message: Any) -> None:
    """Send one message."""
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    sock.sendall(LENGTH.pack(len(body)) + body)


def receive(sock: socket.socket) -> Any:
    """Receive one message; None when the other side has hung up."""
    head = _receive_exactly(sock, LENGTH.size)
    body = head and _receive_exactly(sock, LENGTH.unpack(head)[0])
    return pickle.loads(body) if body else None  # noqa: S301 - from our own parent process


def _receive_exactly(sock: socket.socket, size: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < size:
        part = sock.recv(min(size - len(parts), 1 << 20))
        if not part:
            return None
        parts += part
    return bytes(parts)


def main() -> None:
    """Serve the main process on the descriptors given as arguments."""
    sock = socket.socket(fileno=int(sys.argv[1]))
    config: Config = receive(sock)
    sys.path.insert(0, config.path)
    try:
        function = load_function(config.function)
    except Exception as error:  # noqa: BLE001 - importing runs the user's code
        send(sock, Broken(f"handler {config.function} cannot be imported: {type(error).__name__}: {error}"))
        return
    send(sock, Ready())
    Executor(sock, Board(int(sys.argv[2]), config.slots), config, function).run()
