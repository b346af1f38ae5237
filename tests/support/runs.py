"""`stripedjob run` as a user starts it, on a job whose handler writes down every interval of work."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import yaml
from tests.support.commands import run_forked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PATIENCE_SECONDS = int(os.environ.get("STRIPEDJOB_TEST_PATIENCE", "180"))
HANDLERS = Path(__file__).parent / "job_handlers.py"
OVERLAPS = """
select count(*) from effect a join effect b
on a.resource = b.resource and a.fence <> b.fence and a.began < b.ended and b.began < a.ended and a.unit < b.unit"""
INVERSIONS = """
select count(*) from (
    select unit < max(unit) over earlier as late from effect
    window earlier as (partition by resource order by began rows between unbounded preceding and 1 preceding)
) x where late"""


def stripedjob(
    *args: str | Path, stdin: str = "", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end: forked, but where its environment is another, which Python reads when it starts."""
    if env is None:
        return run_forked(list(map(str, args)), stdin, PATIENCE_SECONDS)
    return subprocess.run(
        [sys.executable, "-m", "stripedjob", *map(str, args)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
        env={**os.environ, **env},
    )


def await_(what: str, is_so: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = is_so()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {seconds} s")


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


@dataclass
class Job:
    """A StripedJob file beside its handlers, and where its pool is; commands and workers come by `pool_url`."""

    folder: Path
    url: str
    lock_url: str
    spec: dict[str, Any] = field(default_factory=dict)
    pool_url: str = ""

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        shutil.copy(HANDLERS, self.folder / "job_handlers.py")
        self.write()
        with psycopg.connect(self.url, autocommit=True) as conn:
            conn.execute(
                "create table if not exists effect (unit bigint, resource text, fence bigint, began timestamptz,"
                " ended timestamptz)"
            )

    @property
    def file(self) -> Path:
        return self.folder / "job.yaml"

    def write(self, **changes: Any) -> None:
        self.spec = (
            {
                "scheduleLimit": 8,
                "handler": {"python": "job_handlers:watched", "transaction": True},
                "lock": {"leaseSeconds": 3},
                "retry": {"backoffSeconds": 0},
            }
            | self.spec
            | changes
        )
        resource = {
            "apiVersion": "striped.dev/v1alpha1",
            "kind": "StripedJob",
            "metadata": {"name": "seed"},
            "spec": self.spec,
        }
        self.file.write_text(yaml.safe_dump(resource))

    @property
    def where(self) -> tuple[str, ...]:
        return ("--postgres", self.pool_url or self.url, "--redis", self.lock_url)

    def do(self, command: str, *args: str, stdin: str = "") -> str:
        """Run a command that must succeed; returns what it says."""
        done = stripedjob(command, self.file, *args, *self.where, stdin=stdin)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def create(self, units: int, resources: int) -> None:
        self.do("create-work", "--units", str(units), "--resources", str(resources))

    def status(self) -> dict[str, int]:
        with psycopg.connect(self.url, row_factory=psycopg.rows.dict_row) as conn:
            return conn.execute("select * from striped.job_status").fetchone() or {}

    def sql(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        with psycopg.connect(self.url, autocommit=True) as conn:
            cursor = conn.execute(query.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def done(self) -> int:
        return int(self.status()["total_done"])

    @contextmanager
    def running(self, *args: str) -> Iterator[Run]:
        """Start `stripedjob run`; what is still there at the end is ended."""
        command = [sys.executable, "-m", "stripedjob", "run", str(self.file), *self.where, "--json", *args]
        with (self.folder / "out").open("w") as out, (self.folder / "err").open("w") as err:
            process = subprocess.Popen(command, stdout=out, stderr=err)
        run = Run(process, self.folder)
        try:
            yield run
        finally:
            workers = run.workers()
            if process.poll() is None:
                process.kill()
            process.wait()
            for worker in workers:
                for pid in [worker, *children(worker)]:
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        continue


@dataclass
class Run:
    """A `stripedjob run` that runs."""

    process: subprocess.Popen[bytes]
    folder: Path

    def workers(self) -> list[int]:
        return children(self.process.pid)

    def await_end(self, code: int = 0) -> dict[str, Any]:
        """Wait until it ends by itself, with this code; returns its summary."""
        ended = self.process.wait(PATIENCE_SECONDS)
        assert ended == code, (self.folder / "err").read_text()[-3000:]
        summary: dict[str, Any] = json.loads((self.folder / "out").read_text().splitlines()[-1])
        return summary
