"""One-shot commands of `stripedjob`, forked off a process that has loaded what they import, which is most of their CPU.

Each is a process of its own with the arguments, the input, the environment and the folder that it is given, as if it
were started by `python -m stripedjob`; what a start by itself is like is for test_terminal.py and test_run.py.
"""

from __future__ import annotations

import atexit
import importlib
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

# Nothing of stripedjob.cli, which looks at its environment while it is imported.
LOADED = ("click", "psycopg", "redis.asyncio", "stripedjob.spec.load", "stripedjob.pool.client.person", "yaml")


def run_forked(args: Sequence[str], stdin: str, seconds: float) -> subprocess.CompletedProcess[str]:
    """Run one command to its end. Raises TimeoutError, and ends it."""
    with ExitStack() as stack:
        given, out, err = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(3))
        given.write(stdin.encode())
        given.seek(0)
        conn = stack.enter_context(socket.socket(socket.AF_UNIX))
        conn.settimeout(seconds)
        conn.connect(_server()[0])
        socket.send_fds(conn, [b"!"], [file.fileno() for file in (given, out, err)])
        conn.sendall(pickle.dumps((list(args), dict(os.environ), str(Path.cwd()))))
        conn.shutdown(socket.SHUT_WR)
        return subprocess.CompletedProcess(["stripedjob", *args], int(conn.recv(16)), _text(out), _text(err))


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


@cache
def _server() -> tuple[str, subprocess.Popen[bytes]]:
    """Start the server of this process, whose end it hears by its stdin; returns its address, which has no file."""
    address = f"\0stripedjob-commands-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.support.commands", str(listener.fileno())],
            pass_fds=(listener.fileno(),),
            stdin=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            start_new_session=True,
        )
    return address, server


def serve(listener: socket.socket) -> None:
    """Fork a process for each that calls, until stdin ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that none is left as a zombie
    while True:
        ready, _, _ = select.select([listener.fileno(), 0], [], [])
        if 0 in ready:
            return
        conn, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            attend(conn)
        conn.close()


def attend(conn: socket.socket) -> NoReturn:
    """Run the command that is asked for, say its exit code, and end; the command ends where the asker has gone."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, files, _, _ = socket.recv_fds(conn, 1, 3)
    request = b""
    while part := conn.recv(1 << 16):
        request += part
    pid = os.fork()
    if pid == 0:
        conn.close()
        command(files, *pickle.loads(request))  # noqa: S301 - from the process that started this one
    poll = select.poll()
    poll.register(conn, select.POLLHUP)
    poll.register(os.pidfd_open(pid), select.POLLIN)
    if conn.fileno() in dict(poll.poll()):
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    conn.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def command(files: list[int], args: list[str], env: dict[str, str], folder: str) -> NoReturn:
    """Be the command."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115 - to the end
    sys.stderr = open(2, "w", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115 - as above
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    sys.argv = ["stripedjob", *args]
    code: Any = 1
    try:
        from stripedjob.__main__ import main  # noqa: PLC0415 - it looks at its environment

        main()
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001 - as the interpreter would
        traceback.print_exc()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code or 0)


if __name__ == "__main__":
    for name in LOADED:
        importlib.import_module(name)
    serve(socket.socket(fileno=int(sys.argv[1])))
