"""The process that runs the user's function, apart from the one that holds the leases.

Started by process.py with two descriptors: a socket and the shared state. A function that blocks its thread, the event
loop or the whole interpreter stops nothing but itself: leases are renewed elsewhere, and what hangs ends with this
process. Where the main process is stopped or gone, this one ends by itself: see _read and _watch.
"""

import contextlib
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any

from stripedjob.runtime.clock import now
from stripedjob.runtime.executor.faults import loading_fault
from stripedjob.runtime.executor.handler import Handler, make
from stripedjob.runtime.executor.progress import Progress, Reporter, run_task, run_task_async
from stripedjob.runtime.executor.wire import Broken, Cancel, Config, End, Ready, Task, receive, send
from stripedjob.runtime.forks import end_if_forked, process_id
from stripedjob.runtime.shared_state import SharedState
from stripedjob.runtime.traces import open_traces

if TYPE_CHECKING:
    import asyncio

OVERDUE_SECONDS = 0.25  # after the time of the end, which the main process keeps within half of that
WATCH_SECONDS_MAX = 0.5  # between two looks at that time, which moves
WATCH_SECONDS_MIN = 0.02


class Executor:
    """Reads tasks from the socket and works on `slots` of them at the same time."""

    def __init__(self, sock: socket.socket, shared_state: SharedState, config: Config, handler: Handler) -> None:
        """Take everything; nothing runs yet."""
        self._sock, self._shared_state, self._config, self._handler = sock, shared_state, config, handler
        self._cancelled: dict[tuple[int, int], str] = {}
        self._running: dict[int, tuple[asyncio.Task[None], Progress]] = {}  # by slot, where a task can be cancelled

    def run(self) -> None:
        """Work until the main process says that it was all."""
        if self._config.handler.kind == "python":  # the children of other kinds are commands, which announce themselves
            os.register_at_fork(after_in_child=self._disown)
        threading.Thread(target=self._watch, daemon=True).start()
        if self._handler.is_async:
            import asyncio  # noqa: PLC0415 - 8 MB that synchronous handlers do not need

            asyncio.run(self._run_async())
        else:
            self._run_threads()

    def _read(self, put: Callable[[Task | None], Any], cancel: Callable[[], Any]) -> None:
        with contextlib.suppress(OSError):  # it died and left what we sent unread
            while (message := receive(self._sock)) is not None:
                if isinstance(message, Cancel):
                    self._cancelled |= message.reasons
                    cancel()
                    continue
                for task in [None] * self._config.slots if isinstance(message, End) else map(Task._make, message):
                    put(task)
        self._shared_state.kill_groups()
        os._exit(0)  # the main process is gone and with it the right to go on, whatever the function is doing

    def _watch(self) -> None:
        """End this process when its time is over and the main process, stopped or blocked, has not done so.

        Invariant: work ends before its lease may. A function that holds the interpreter's lock keeps this thread from
        it; of such a one, while the main process is stopped too, the fence alone keeps the pool.
        """
        while True:
            left = self._shared_state.kill_at + OVERDUE_SECONDS - now()
            if left <= 0 and self._shared_state.running():
                self._shared_state.is_overdue = True
                self._shared_state.kill_groups()
                with contextlib.suppress(OSError):
                    os.killpg(os.getpid(), signal.SIGKILL)  # with the children of the function
                os._exit(1)
            time.sleep(max(WATCH_SECONDS_MIN, min(left, WATCH_SECONDS_MAX)))

    def _disown(self) -> None:
        """In a forked child: let go of what is the executor's."""
        self._sock.close()
        self._shared_state.detach()

    def _start(
        self, put: Callable[[Task | None], Any], is_empty: Callable[[], bool], cancel: Callable[[], Any]
    ) -> Reporter:
        threading.Thread(target=self._read, args=(put, cancel), daemon=True).start()
        return Reporter(lambda outcomes: send(self._sock, list(map(tuple, outcomes))), lambda: not is_empty())

    def _progress(self, task: Task, slot: int, reporter: Reporter) -> Progress:
        return Progress(task, self._shared_state, slot, self._config, reporter, cancelled=self._cancelled)

    def _run_threads(self) -> None:
        tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        reporter = self._start(
            tasks.put, tasks.empty, lambda: None
        )  # a thread cannot be stopped: see ExecutorSupervisor

        def work(slot: int) -> None:
            with self._handler.for_slot(slot) as call:
                run = call if self._handler.takes_tasks else partial(run_task, call)
                while (task := tasks.get()) is not None:
                    run(self._progress(task, slot, reporter))

        threads = [threading.Thread(target=work, args=(slot,), daemon=True) for slot in range(1, self._config.slots)]
        for thread in threads:
            thread.start()
        work(0)
        for thread in threads:
            thread.join()

    async def _run_async(self) -> None:
        import asyncio  # noqa: PLC0415 - as above

        tasks: asyncio.Queue[Task | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        reporter = self._start(
            lambda task: loop.call_soon_threadsafe(tasks.put_nowait, task),
            tasks.empty,
            lambda: loop.call_soon_threadsafe(self._cancel_tasks),
        )

        async def work(slot: int) -> None:
            this_task = asyncio.current_task()
            assert this_task is not None  # noqa: S101 - it is in one
            async with self._handler.for_slot(slot) as call:
                run = call if self._handler.takes_tasks else partial(run_task_async, call)
                while (task := await tasks.get()) is not None:
                    progress = Progress(
                        task, self._shared_state, slot, self._config, reporter, cancelled=self._cancelled
                    )
                    if not self._handler.takes_tasks:  # else its transaction ends with the process
                        self._running[slot] = this_task, progress
                    await run(progress)
                    self._running.pop(slot, None)

        async with asyncio.TaskGroup() as group:
            for slot in range(self._config.slots):
                group.create_task(work(slot))

    def _cancel_tasks(self) -> None:
        """Cancel what runs of a cancelled unit: in the event loop, so that it is that unit's code that hears of it."""
        for task, progress in self._running.values():
            if progress.end_reason and not task.cancelling():
                task.cancel(progress.end_reason)


def main() -> None:
    """Serve the main process on the descriptors given as arguments."""
    sock, fd = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    for one in (sock.fileno(), fd):
        os.set_inheritable(one, False)  # noqa: FBT003 - programs that the function starts have no part in them
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(line_buffering=True, write_through=False)  # whole lines, so that they do not mix
    config: Config | None = receive(sock)
    if config is None:  # the main process has gone already
        return
    sys.path.insert(0, config.path)
    shared_state, pid = SharedState(fd, config.slots), process_id()
    error: BaseException | None = None
    try:
        traces = open_traces(config.job)
        handler = make(config.handler, shared_state, traces.around if traces else None)
    except BaseException as raised:  # noqa: BLE001 - importing runs the user's code, which may also exit
        error = raised
    end_if_forked(pid, error)
    if error is not None:
        send(sock, Broken(loading_fault(error, str(config.handler))))
        return
    send(sock, Ready())
    Executor(sock, shared_state, config, handler).run()
