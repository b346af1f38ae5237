"""The machines that work: each runs `stripedjob run`, or one worker as a pod does, behind proxies of its own.

A host has a wall clock that can be stepped and a small log volume that can be filled. What ends is started again, and
is remembered as an Exit unless the nemesis ended it.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import shutil
import signal
import struct
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tests.faults.history import Exit
from tests.support.runs import children

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.faults.proxy import Proxy

VOLUME = "size=1m"
ROTATE_BYTES = 300_000
DRAIN_SECONDS_MAX = 60.0
LAST_WORDS = 300
SPEECH = ("error:", "{", "Traceback")  # how the lines begin that say why a process ended
CLOCK = Path(__file__).parent / "clock.c"


@dataclass
class Host:
    """One machine. `command` and `env` start its one process, `postgres` and `valkey` are its ways to the servers."""

    name: str
    role: Literal["supervisor", "worker"]
    folder: Path
    command: Sequence[str]
    env: dict[str, str]
    postgres: Proxy
    valkey: Proxy
    clock: mmap.mmap | None = None
    exits: list[Exit] = field(default_factory=list)
    away_at_start: int = 0
    killed: bool = False
    _kills: int = 0  # of workers that the supervisor will replace
    _replaced: list[str] = field(default_factory=list)
    _process: subprocess.Popen[bytes] | None = None
    _started_at: float = 0.0
    _has_worked: bool = False  # it has, or had, executors: it had found its servers by then
    _read: int = 0
    _last_words: str = ""

    @property
    def log(self) -> Path:
        """What its process writes on stderr, on a volume of its own."""
        return self.folder / "log" / "stderr"

    @property
    def pid(self) -> int | None:
        """Its one process, where it lives."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Start its process."""
        with self.log.open("ab") as log, (self.folder / "stdout").open("ab") as out:
            self._process = subprocess.Popen(
                self.command,
                env=os.environ | self.env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                cwd=self.folder,
            )
        self._started_at, self.killed, self._kills, self._replaced = time.monotonic(), False, 0, []
        self._has_worked = False

    def mains(self) -> list[int]:
        """Return the main processes of its workers and delegators."""
        if self.pid is None:
            return []
        return [self.pid] if self.role == "worker" else children(self.pid)

    def executors(self) -> list[int]:
        """Return the processes in which its handlers run."""
        return [child for main in self.mains() for child in children(main)]

    def kill(self, pid: int) -> None:
        """End a process of this host with SIGKILL."""
        if pid == self.pid:
            self.killed = True
        elif pid in self.mains():
            self._kills += 1
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def tend(self) -> None:
        """Read its log, and start again what has ended.

        One that finds its servers away when it starts may end, as documented.
        """
        self._hear()
        self._has_worked |= bool(self.executors())
        if self.pid is not None or self._process is None:
            return
        code, age = self._process.returncode, time.monotonic() - self._started_at
        if code == os.EX_UNAVAILABLE and not self._has_worked:
            self.away_at_start += 1
        elif not self.killed:
            self._note(f"exit code {code} after {age:.1f} s: {self._last_words}")
        self._judge_replaced()
        self.start()

    def drain(self) -> None:
        """Tell its process to end, which it is to do with 0; one that is not there yet ends as the kernel has it."""
        self._has_worked |= bool(self.executors())
        if self.pid is not None:
            os.kill(self.pid, signal.SIGTERM)

    def await_end(self) -> None:
        """Wait until it has drained; by force after a while."""
        assert self._process is not None
        try:
            code = self._process.wait(DRAIN_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            for pid in [*self.executors(), *self.mains(), self._process.pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()
            self._note(f"did not drain in {DRAIN_SECONDS_MAX:g} s")
        else:
            if code and not (code == -signal.SIGTERM and not self._has_worked):
                self._note(f"drained with exit code {code}")
        self._hear()
        self._judge_replaced()
        self._process = None

    def step_clock(self, seconds: int) -> None:
        """Put its wall clock off by so much from the machine's."""
        assert self.clock is not None
        self.clock[:8] = struct.pack("q", seconds)

    def fill_volume(self) -> None:
        """Leave no byte on its log volume."""
        with (self.folder / "log" / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
            while True:
                ballast.write(b"\0" * 512)

    def free_volume(self) -> None:
        """Give the volume back."""
        (self.folder / "log" / "ballast").unlink(missing_ok=True)

    def _judge_replaced(self) -> None:
        """Compare the deaths that the supervisor saw with those that the nemesis made."""
        for words in self._replaced[self._kills :]:
            self._note(words)

    def _note(self, words: str) -> None:
        if (self.folder / "log" / "ballast").exists():
            words = f"with a full log volume, {words}"
        self.exits.append(Exit(self.name, words[:LAST_WORDS]))

    def _hear(self) -> None:
        """Read what is new in its log, and rotate it."""
        with self.log.open("rb") as log:
            log.seek(self._read)
            said = log.read()
        self._read += len(said)
        lines = said.decode(errors="replace").splitlines()
        self._replaced += [line for line in lines if "it is replaced" in line]
        self._last_words = next((line for line in reversed(lines) if line.startswith(SPEECH)), self._last_words)
        with (self.folder / "stderr").open("ab") as kept:
            kept.write(said)
        if self._read > ROTATE_BYTES:
            os.truncate(self.log, 0)
            self._read = 0


def mount_volume(folder: Path) -> str | None:
    """Make the host's log volume; says why it is a plain folder where that is not possible."""
    (folder / "log").mkdir(parents=True)
    if os.geteuid() != 0:
        return "only root can mount a small volume"
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", VOLUME, "tmpfs", str(folder / "log")],
        capture_output=True,
        text=True,
        check=False,
    )
    return made.stderr.strip() or None if made.returncode else None


def unmount_volume(folder: Path) -> None:
    """Undo mount_volume."""
    if (folder / "log").is_mount():
        subprocess.run(["umount", "--lazy", str(folder / "log")], check=True)


def build_clock(folder: Path) -> tuple[Path | None, str | None]:
    """Compile the wall clock that can be stepped; (the library, None) or (None, why not)."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None, "there is no C compiler to build the clock with"
    library = folder / "clock.so"
    made = subprocess.run(
        [compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(CLOCK), "-ldl"],
        capture_output=True,
        text=True,
        check=False,
    )
    return (library, None) if made.returncode == 0 else (None, f"{os.strerror(errno.ENOEXEC)}: {made.stderr.strip()}")


def map_clock(path: Path) -> mmap.mmap:
    """Make a host's clock file: no offset."""
    path.write_bytes(b"\0" * mmap.PAGESIZE)
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), mmap.PAGESIZE)
