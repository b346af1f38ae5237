"""A Postgres and a Valkey of the benchmark's own, and what their processes cost.

Called by the benchmarks that measure speed. Postgres is durable, with fsync and its defaults, as users have it.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from stripedjob.local.engine_servers import PostgresServer, ValkeyServer

TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Servers:
    """Both servers; their processes are children of this one."""

    postgres: PostgresServer
    valkey: ValkeyServer

    @property
    def urls(self) -> tuple[str, str]:
        """Where Postgres and Valkey take clients."""
        return self.postgres.url, self.valkey.url


@contextmanager
def durable() -> Iterator[Servers]:
    """Start both in a temporary directory; they and their data are gone at the end."""
    with tempfile.TemporaryDirectory(prefix="stripedjob-bench-") as folder, ExitStack() as stack:
        homes = [Path(folder) / name for name in ("postgres", "valkey")]
        for home in homes:
            home.mkdir()
        servers = Servers(PostgresServer(homes[0], durable=True), ValkeyServer(homes[1]))
        for server in (servers.postgres, servers.valkey):
            stack.callback(server.stop)
            server.start()
        yield servers


def children(pid: int) -> list[int]:
    """Return the processes that a process has started, by any of its threads, and that live."""
    try:
        return [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in _words(task / "children")]
    except FileNotFoundError:
        return []


def own_seconds(pid: int) -> float:
    """Return the CPU seconds of one process without its children, to a tick of 10 ms; 0 where it has gone."""
    return sum(_times(pid)[:2])


def tree_seconds(pid: int, *, without: int = 0) -> float:
    """Return the CPU seconds of a process and all below it, with those that have ended; `without` one of them."""
    if pid == without:
        return 0.0
    return sum(_times(pid)) + sum(tree_seconds(child, without=without) for child in children(pid))


def below_seconds(pid: int) -> float:
    """Return the CPU seconds of all that a process has started, with those that have ended."""
    return tree_seconds(pid) - own_seconds(pid)


def _times(pid: int) -> list[float]:
    """Return user and system time, and those of children that were waited for, in seconds."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return [0.0] * 4
    after_name = stat.rpartition(")")[2].split()
    return [int(ticks) * TICK_SECONDS for ticks in after_name[11:15]]


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return []
