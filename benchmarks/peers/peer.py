"""What every neighbour is made of: its own database, its workers behind a gate, and how units come in.

Subclassed by the adapters; used by works.py. A neighbour is made for one cell of the table and ends with it.
"""

import json
import secrets
import subprocess
import sys
from abc import ABC, abstractmethod
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql
from servers import Servers, tree_seconds

from peers.fetch import MissingError, fetch, node
from peers.gated import Gated

BENCHMARKS = Path(__file__).parent.parent
LOAD_SECONDS_MAX = 600.0
PROCESSES = 2
SMALL_BATCH = 20


@dataclass(frozen=True, slots=True)
class Cell:
    """Where and how a neighbour is measured."""

    servers: Servers
    folder: Path
    processes: int | None = None  # workers; None: as many as the neighbour is measured with
    one_at_a_time: bool = False  # a worker has one unit at work, and small batches, so that others have work as well
    at_rest: bool = False  # units come one by one: calls in place of polls, where there are any
    records: Path | None = None


class Peer(ABC):
    """One neighbour in one cell; `with peer:` starts it with its workers at rest."""

    name: ClassVar[str]
    version: ClassVar[str]
    units_max: ClassVar[int | None] = None  # slow ones get no more

    def __init__(self, cell: Cell) -> None:
        """Take the cell; nothing is started yet."""
        self.cell = cell
        self.stack = ExitStack()
        self.database = f"bench_{secrets.token_hex(4)}"
        self.url = urlunsplit(urlsplit(cell.servers.postgres.url)._replace(path=f"/{self.database}"))

    def __enter__(self) -> Self:
        """Make the database, connect and start."""
        with psycopg.connect(self.cell.servers.postgres.url, autocommit=True) as admin:
            admin.execute(sql.SQL("create database {} template template0").format(sql.Identifier(self.database)))
            admin.execute("checkpoint")
        try:
            self.conn = self.stack.enter_context(psycopg.connect(self.url, autocommit=True))
            self.asking = self.stack.enter_context(psycopg.connect(self.url, autocommit=True))
            self.start()
        except BaseException:
            self.stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End the workers and drop the database."""
        self.stack.close()
        with psycopg.connect(self.cell.servers.postgres.url, autocommit=True) as admin:
            admin.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(self.database)))

    @abstractmethod
    def start(self) -> None:
        """Make the schema and start the workers; they are there and do nothing."""

    @abstractmethod
    def load(self, units: int, resources: int, seconds: float) -> None:
        """Put units in as its users do with many: numbered from 1, round and round over the resources."""

    @abstractmethod
    def enqueue(self, unit: int, resource: int, seconds: float = 0.0) -> None:
        """Put one unit in, and return when it is committed."""

    @abstractmethod
    def go(self) -> None:
        """Let the workers work."""

    @abstractmethod
    def stop(self) -> None:
        """Let them work no more; records are written when it returns."""

    @abstractmethod
    def is_empty(self) -> bool:
        """Return whether all is done, and known to be."""

    @abstractmethod
    def workers(self) -> list[int]:
        """Return the process ids of the workers."""

    @abstractmethod
    def check(self) -> None:
        """Raise MissingError where a worker has ended by itself."""

    def cpu(self) -> dict[str, float]:
        """Return the CPU seconds so far, by group of processes; without the session that asks whether all is done."""
        return {
            "postgres": tree_seconds(self.cell.servers.postgres.pid, without=self.asking.info.backend_pid),
            "locks": tree_seconds(self.cell.servers.valkey.pid),
            "workers": sum(map(tree_seconds, self.workers())),
        }


class GatedPeer(Peer):
    """One whose workers are programs of ours around its library."""

    folder: ClassVar[Path]
    batch: ClassVar[int] = 1
    concurrency: ClassVar[int] = 1
    rest_seconds: ClassVar[float] = 0.01

    def start(self) -> None:
        """Install the schema and start the processes."""
        self.make_schema()
        self.gated = [self.spawn(f"worker-{n}", *self.command()) for n in range(self.cell.processes or PROCESSES)]
        for one in self.gated:
            assert one.hear() == "ready"

    @abstractmethod
    def make_schema(self) -> None:
        """Install the schema."""

    @abstractmethod
    def command(self) -> list[str]:
        """Return the program of a worker, and its arguments but the last, which is the config."""

    def env(self) -> dict[str, str]:
        """Return what the processes get beside the environment."""
        return {}

    def config(self) -> dict[str, Any]:
        """Return what the processes are told."""
        cell = self.cell
        return {
            "postgres": self.url,
            "valkey": str(cell.servers.valkey.socket_path),
            "namespace": self.database,
            "batch": min(self.batch, SMALL_BATCH) if cell.one_at_a_time else self.batch,
            "concurrency": 1 if cell.one_at_a_time else self.concurrency,
            "rest_seconds": self.rest_seconds,
            "at_rest": cell.at_rest,
            "records": str(cell.records) if cell.records else None,
        }

    def spawn(self, name: str, *command: str) -> Gated:
        """Start a program with the config."""
        log = self.cell.folder / f"{self.database}-{name}.log"
        one = Gated([*command, json.dumps(self.config())], self.env(), log)
        self.stack.callback(one.end)
        return one

    def fetched(self) -> Path:
        """Return the directory of the packages; raises MissingError."""
        return fetch(self.folder)

    def go(self) -> None:
        """Open the gate."""
        for one in self.gated:
            one.say("go")

    def stop(self) -> None:
        """Close it, and wait until all have come to rest."""
        for one in self.gated:
            one.say("stop")
        for one in self.gated:
            assert one.hear() == "stopped"

    def answers(self, question: str) -> bool:
        """Ask the database, in the session whose CPU does not count."""
        row = self.asking.execute(question.encode()).fetchone()
        return bool(row and row[0])

    def workers(self) -> list[int]:
        """Return the processes."""
        return [one.process.pid for one in self.gated]

    def check(self) -> None:
        """Check each process."""
        for one in self.gated:
            one.check()


class PythonWorkers(GatedPeer):
    """Workers in Python, with this interpreter, and packages of their own before its."""

    worker: ClassVar[Path]

    def command(self) -> list[str]:
        """Run the worker."""
        return [sys.executable, "-P", str(self.worker)]

    def env(self) -> dict[str, str]:
        """Find the adapter's packages, and the gate."""
        own = [str(self.fetched())] if hasattr(self, "folder") else []
        return {"PYTHONPATH": ":".join([*own, str(BENCHMARKS)])}


class NodeWorkers(GatedPeer):
    """Workers for Node."""

    def command(self) -> list[str]:
        """Run the worker."""
        target = self.fetched()
        return [str(node(target)), str(target / "worker.mjs")]

    def run(self, script: str) -> None:
        """Run a script to its end; raises MissingError."""
        target = self.fetched()
        command = [str(node(target)), str(target / script), json.dumps(self.config())]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode:
            raise MissingError(f"{script}: {done.stderr.strip()}")


class SqlPeer(GatedPeer):
    """One whose units come in by SQL."""

    schema: ClassVar[str]
    load_sql: ClassVar[str]
    enqueue_sql: ClassVar[str]
    empty_sql: ClassVar[str]

    def make_schema(self) -> None:
        """Run the SQL of the schema."""
        self.conn.execute(self.schema.encode())

    def load(self, units: int, resources: int, seconds: float) -> None:
        """Put them in by one statement."""
        self.conn.execute(self.load_sql.encode(), {"units": units, "resources": resources, "seconds": seconds})

    def enqueue(self, unit: int, resource: int, seconds: float = 0.0) -> None:
        """Put one in."""
        payload = json.dumps({"n": unit, "r": f"r{resource}", "s": seconds})
        self.conn.execute(self.enqueue_sql.encode(), {"resource": f"r{resource}", "payload": payload})

    def is_empty(self) -> bool:
        """Ask the table."""
        return self.answers(self.empty_sql)


class ClientPeer(NodeWorkers):
    """One whose units come in by its own client, in a process of its own."""

    def make_schema(self) -> None:
        """Start the client, which makes what it needs."""
        target = self.fetched()
        self.client = self.spawn("client", str(node(target)), str(target / "client.mjs"))
        assert self.client.hear() == "ready"

    def ask(self, *words: object) -> Any:
        """Have the client do something, and give its answer."""
        self.client.say(" ".join(map(str, words)))
        return json.loads(self.client.hear(LOAD_SECONDS_MAX))

    def load(self, units: int, resources: int, seconds: float) -> None:
        """Put them in by the client's way for many."""
        self.ask("load", units, resources, seconds)

    def enqueue(self, unit: int, resource: int, seconds: float = 0.0) -> None:
        """Put one in."""
        self.ask("enqueue", unit, resource, seconds)
