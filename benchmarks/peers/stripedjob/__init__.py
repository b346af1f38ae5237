"""StripedJob: whole workers as `stripedjob run` starts them, held back by a schedule limit of 0."""

import json
import os
from dataclasses import replace
from typing import Any, ClassVar

from local import await_, crew, job

from peers.fetch import MissingError
from peers.peer import BENCHMARKS, Peer
from stripedjob._version import __version__
from stripedjob.pool.client.owner import OwnerPool
from stripedjob.settings import job_settings

LOAD = """
insert into striped.unit (job_id, resource, payload)
select %s, 'r' || n %% %s, json_build_object('n', n, 'r', 'r' || n %% %s, 's', %s::float8)
from generate_series(1, %s) n"""


class Mutex(Peer):
    """Two workers, strategy Mutex, locks in Valkey."""

    name = "stripedjob"
    version = __version__
    spec: ClassVar[dict[str, Any]] = {}
    processes = 2

    def start(self) -> None:
        """Migrate, make the job and start its workers."""
        cell = self.cell
        os.environ["STRIPEDJOB_BENCH_LOG"] = str(cell.records or "/dev/null")
        self.one = job("bench", handler={"python": "noop:record" if cell.records else "noop:work"}, **self.spec)
        self.pool = OwnerPool(self.asking, "striped")
        self.pool.migrate()
        self.job_id = self.pool.apply(replace(job_settings(self.one), schedule_limit=0))
        count = cell.processes or self.processes
        self.crew = self.stack.enter_context(crew(self.one, self.url, self._locks(), count, BENCHMARKS))
        await_("the workers are there", lambda: len(self.pool.workers(self.job_id)) == count)

    def _locks(self) -> str:
        return self.cell.servers.valkey.url

    def load(self, units: int, resources: int, seconds: float) -> None:
        """Put them in by one statement."""
        self.conn.execute(LOAD, [self.job_id, resources, resources, seconds, units])

    def enqueue(self, unit: int, resource: int, seconds: float = 0.0) -> None:
        """Call the function."""
        payload = json.dumps({"n": unit, "r": f"r{resource}", "s": seconds})
        self.conn.execute("select striped.enqueue('bench', %s, %s::json)", [f"r{resource}", payload])

    def go(self) -> None:
        """Raise the limit."""
        self.pool.apply(job_settings(self.one))

    def stop(self) -> None:
        """Lower it, and wait until nobody works."""
        self.pool.apply(replace(job_settings(self.one), schedule_limit=0))
        await_("the workers rest", lambda: self.pool.status(self.job_id).working == 0)

    def is_empty(self) -> bool:
        """Ask the pool."""
        return self.pool.is_empty(self.job_id)

    def workers(self) -> list[int]:
        """Return the main processes; their executors are below them."""
        return [member.process.pid for member in self.crew.members]

    def check(self) -> None:
        """Check each worker."""
        if ended := self.crew.reap():
            raise MissingError(f"a worker ended: {ended[0].last_words}")


class FourWorkers(Mutex):
    """Four workers."""

    name = "stripedjob-4"
    processes = 4


class PostgresLocks(Mutex):
    """Locks in Postgres."""

    name = "stripedjob-postgres"
    spec: ClassVar[dict[str, Any]] = {"lock": {"backend": "Postgres"}}

    def _locks(self) -> str:
        return self.url


class Fifo(Mutex):
    """Strategy FIFO."""

    name = "stripedjob-fifo"
    spec: ClassVar[dict[str, Any]] = {"strategy": "FIFO"}
