"""The process that runs the user's function, apart from the one that holds the leases.

Started by host.py with two descriptors: a socket and the board. A function that blocks its thread, the event loop
or the whole interpreter stops nothing but itself: leases are renewed elsewhere, and what hangs ends with this process.

    main → executor    Config, then lists of Task
    executor → main    Ready or Broken, then lists of Outcome
"""

import contextlib
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
from typing import Any, NamedTuple

from stripedjob.runtime.board import Board
from stripedjob.runtime.handlers import Call, Handler, HandlerSettings, make
from stripedjob.runtime.work import TRY_SECONDS_MAX, Fault, Outcome, Unit, Verdict, fault_of

LENGTH = struct.Struct("!I")
REPORT_SECONDS = 0.05  # an outcome is sent at most so late, however long the next unit takes


@dataclass(frozen=True, slots=True)
class Config:
    """What to run and how. `path` is put first on sys.path; `block`: a unit that is not done ends its lease."""

    handler: HandlerSettings
    slots: int = 1
    block: bool = False
    path: str = ""


class Task(NamedTuple):
    """One lease to work on. `key` is the main process's name for it. A tuple, since thousands are sent a second."""

    key: int
    resource: str
    fence: int
    ids: tuple[int, ...]
    attempts: tuple[int, ...]
    payloads: tuple[str, ...]
    worker_id: int = 0

    def units(self, extend: Callable[[Unit, float], None]) -> list[Unit]:
        """Give the units as handlers get them; `extend` is what their extend() calls."""
        rows = zip(self.ids, self.attempts, self.payloads, strict=True)
        return [
            Unit(i, self.resource, self.fence, attempts + 1, payload, extend, self.worker_id)
            for i, attempts, payload in rows
        ]


@dataclass(frozen=True, slots=True)
class Ready:
    """The function was found."""


@dataclass(frozen=True, slots=True)
class Broken:
    """The function cannot be had, and why."""

    reason: str


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
        self._first = self._tried = self._done = 0
        self._faults: list[Fault] = []
        self._reported = self._started = time.monotonic()
        self._until: float | None = None  # when the time of what runs ends; None: nothing runs

    def may_start(self) -> bool:
        """Claim the right to start the next unit, and say so on the board; False: end here."""
        if self._config.block and any(f.verdict is not Verdict.DEAD for f in self._faults):
            return False
        now = time.monotonic()
        if now >= self._board.deadline:
            return False
        if now - self._reported > REPORT_SECONDS and self._tried > self._first:
            self.report(final=False)
        self._started, self._until = now, now + self._config.handler.timeout_seconds
        self._board.start(self._slot, self._task.key, self._tried, now)
        return True

    def extend(self, unit: Unit, seconds: float) -> None:
        """Move the time at which the main process stops what runs; never to an earlier one. Called by Unit.extend."""
        index, until, now = self._tried, self._until, time.monotonic()
        width = len(self._task.ids) if self._config.handler.per_resource else 1
        if until is None or unit.id not in self._task.ids[index : index + width]:
            raise RuntimeError(f"extend() works while the unit's own handler runs; unit {unit.id} is not at work")
        if not 0 < seconds <= TRY_SECONDS_MAX - (now - self._started):
            raise ValueError(
                f"a try cannot be extended by {seconds:g} s: give more than 0, and at most {TRY_SECONDS_MAX:g} s in all"
                f" since its start, which was {now - self._started:.0f} s ago"
            )
        self._until = max(until, now + seconds)
        self._board.extend(self._slot, self._task.key, index, self._until)

    def ended(self, units: int, error: BaseException | None) -> None:
        """Record that the next so many units were tried, and how it ended."""
        self._until = None
        self._board.clear(self._slot)
        if error is None:
            self._done += units
        else:
            self._faults += [fault_of(self._tried + i, error) for i in range(units)]
        self._tried += units

    def report(self, *, final: bool) -> None:
        """Send what came since the last report."""
        now = time.monotonic()
        seconds = now - self._reported
        recorded = self._done if self._config.handler.database else 0
        faults = tuple(self._faults)
        self._reporter.add(Outcome(self._task.key, self._first, self._tried, faults, final, seconds, recorded))
        self._first, self._done, self._faults, self._reported = self._tried, 0, [], now


def calls(task: Task, config: Config, progress: Progress) -> list[tuple[Any, int]]:
    """Give the arguments of the function's calls, each with the number of units that it covers."""
    units = task.units(progress.extend)
    return [(units, len(units))] if config.handler.per_resource else [(unit, 1) for unit in units]


def run_task(call: Call, task: Task, config: Config, progress: Progress) -> None:
    """Run one task with a function that returns its result."""
    for argument, units in calls(task, config, progress):
        if not progress.may_start():
            break
        error: BaseException | None = None
        try:
            call(argument)
        except BaseException as raised:  # noqa: BLE001 - whatever the user's code raises is an outcome
            error = raised
        progress.ended(units, error)
    progress.report(final=True)


async def run_task_async(call: Call, task: Task, config: Config, progress: Progress) -> None:
    """Run one task with a coroutine function."""
    for argument, units in calls(task, config, progress):
        if not progress.may_start():
            break
        error: BaseException | None = None
        try:
            await call(argument)
        except BaseException as raised:  # noqa: BLE001 - whatever the user's code raises is an outcome
            error = raised
        progress.ended(units, error)
    progress.report(final=True)


class Executor:
    """Reads tasks from the socket and works on `slots` of them at the same time."""

    def __init__(self, sock: socket.socket, board: Board, config: Config, handler: Handler) -> None:
        """Take everything; nothing runs yet."""
        self._sock, self._board, self._config, self._handler = sock, board, config, handler

    def run(self) -> None:
        """Work until the main process hangs up."""
        if self._handler.is_async:
            import asyncio  # noqa: PLC0415 - 8 MB that synchronous handlers do not need

            asyncio.run(self._run_async())
        else:
            self._run_threads()

    def _read(self, put: Callable[[Task], Any]) -> None:
        with contextlib.suppress(OSError):  # it died and left what we sent unread
            while (tasks := receive(self._sock)) is not None:
                for task in tasks:
                    put(task)
        self._board.kill_groups()
        os._exit(0)  # the main process is gone and with it the right to go on, whatever the function is doing

    def _start(self, put: Callable[[Task], Any], is_empty: Callable[[], bool]) -> Reporter:
        threading.Thread(target=self._read, args=(put,), daemon=True).start()
        return Reporter(lambda message: send(self._sock, message), lambda: not is_empty())

    def _run_threads(self) -> None:
        tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()
        reporter = self._start(tasks.put, tasks.empty)

        def work(slot: int) -> None:
            call = self._handler.for_slot(slot)
            while True:
                task = tasks.get()
                run_task(call, task, self._config, Progress(task, self._board, slot, self._config, reporter))

        for slot in range(1, self._config.slots):
            threading.Thread(target=work, args=(slot,), daemon=True).start()
        work(0)

    async def _run_async(self) -> None:
        import asyncio  # noqa: PLC0415 - as above

        tasks: asyncio.Queue[Task] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        reporter = self._start(lambda task: loop.call_soon_threadsafe(tasks.put_nowait, task), tasks.empty)

        async def work(slot: int) -> None:
            call = self._handler.for_slot(slot)
            while True:
                task = await tasks.get()
                progress = Progress(task, self._board, slot, self._config, reporter)
                await run_task_async(call, task, self._config, progress)

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
    board = Board(int(sys.argv[2]), config.slots)
    try:
        handler = make(config.handler, board)
    except Exception as error:  # noqa: BLE001 - importing runs the user's code
        send(sock, Broken(f"handler {config.handler} cannot be had: {type(error).__name__}: {error}"))
        return
    send(sock, Ready())
    Executor(sock, board, config, handler).run()
