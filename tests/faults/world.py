"""One strategy's world: two jobs in a database, hosts that work on them, applications that feed them."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psycopg
import yaml
from tests.faults.clients import Client
from tests.faults.history import History, Pause, Promises, Throttle
from tests.faults.hosts import Host, build_clock, map_clock, mount_volume, unmount_volume
from tests.faults.reading import WRITTEN_DOWN, Clock, Reader, read_enqueued, read_executions
from tests.faults.servers import READ_WRITE, Servers

from stripedjob.pool.client.owner import OwnerPool
from stripedjob.settings import job_settings
from stripedjob.spec.model import StripedJob

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.proxy import Network

LEASE_SECONDS = 3
CLIENTS = 4
BACKLOG_UNITS_MAX = 3_000  # where there are as many, the applications wait
DRAIN_SECONDS_MAX = 90.0
EFFECTS, ACTS = "effects", "acts"  # the jobs: one with effects in the pool's database, one with effects elsewhere
HANDLERS = Path(__file__).parent / "effects.py"
THROTTLE = Throttle(outstanding_max=12, rate=40, period_seconds=1)
SPEC: dict[str, Any] = {
    "lock": {"leaseSeconds": LEASE_SECONDS},
    "retry": {"backoffSeconds": 0, "maxAttempts": 5, "crashThreshold": 1000},
    "drainSeconds": 20,
}
COMMANDS = {"supervisor": "run", "worker": "worker"}


@dataclass(frozen=True, slots=True)
class Plan:
    """What to make: the strategy, and how many workers `stripedjob run` keeps in all."""

    strategy: str
    workers: int
    seed: int

    @property
    def limit(self) -> int:
        """Fewer than there are workers, so that the limit is felt."""
        return max(2, self.workers // 2 + 1)


class World:
    """Everything of one strategy; `with World(...) as world`. Call it from one thread, the main one."""

    def __init__(self, plan: Plan, servers: Servers, network: Network, folder: Path) -> None:
        """Make the database and the jobs when entered."""
        self.plan, self.servers, self.network, self.folder = plan, servers, network, folder
        self.unsupported: dict[str, str] = {}
        self.pauses: list[Pause] = []
        self.hosts: list[Host] = []
        self.clock = Clock.now()
        self.last_healed_at = time.monotonic()
        self._clients: list[Client] = []
        self._stack = ExitStack()
        self._waiting = 0

    def __enter__(self) -> Self:
        """Make everything, start the hosts and then the applications."""
        self.folder.mkdir()
        self.url = self._stack.enter_context(self.servers.database(self.plan.strategy.lower()))
        with OwnerPool.open(self.url) as pool:
            pool.migrate()
            self.job_ids = {name: pool.apply(job_settings(job)) for name, job in self._jobs().items()}
        with self.connection() as conn:
            conn.execute(WRITTEN_DOWN.encode())
        library, why_not = build_clock(self.folder)
        if why_not:
            self.unsupported["clock_step"] = why_not
        self._make_hosts(library)
        for host in self.hosts:
            host.start()
        self.feeding = self.network.proxy(self.servers.postgres.port)
        jobs = [EFFECTS] * 5 + [ACTS]
        for number in range(CLIENTS):
            log, seed = self.folder / f"client-{number}.jsonl", f"{self.plan.seed} {number}"
            self._clients.append(Client(self._through(self.feeding.port), jobs, log, seed, self._has_room))
        for client in self._clients:
            client.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End what is left."""
        for client in self._clients:
            client.stop()
        for host in self.hosts:
            if host.pid is not None:
                host.drain()
        for host in self.hosts:
            if host.pid is not None:
                host.await_end()
            unmount_volume(host.folder)
        self._stack.close()

    def connection(self) -> psycopg.Connection[Any]:
        """Connect past all faults."""
        return psycopg.connect(self.url, autocommit=True, options=READ_WRITE)

    def tend(self) -> None:
        """Start again what has ended, and see how much waits."""
        for host in self.hosts:
            host.tend()
        try:
            with self.connection() as conn:
                row = conn.execute("select count(*) from striped.unit").fetchone()
                self._waiting = row[0] if row else 0
        except psycopg.Error:
            return  # it is away: there is nothing to see

    def drain(self) -> float:
        """Stop feeding, and work until nothing is left; returns the seconds that it took, then ends all hosts."""
        began = time.monotonic()
        for client in self._clients:
            client.stop()
        with OwnerPool.open(self.url) as pool:
            while not all(pool.is_empty(job) for job in self.job_ids.values()):
                if time.monotonic() - began > DRAIN_SECONDS_MAX:
                    break
                for host in self.hosts:
                    host.tend()
                time.sleep(0.1)
        seconds = time.monotonic() - began
        for host in self.hosts:
            host.drain()
        for host in self.hosts:
            host.await_end()
        return seconds

    def histories(self) -> Iterator[tuple[str, History]]:
        """Read what happened, job by job."""
        executions = read_executions(self.folder / "executions")
        with self.connection() as conn:
            for name, job_id in self.job_ids.items():
                reader = Reader(conn, job_id, self.clock)
                history = History(self._promises(name))
                history.enqueued = read_enqueued(self.folder, name) + reader.scheduled()
                history.effects = reader.effects() if name == EFFECTS else []
                history.recorded, history.changes = reader.recorded(), reader.changes()
                units = {one.unit for one in history.recorded} | {one.unit for one in history.enqueued}
                history.executions = [one for one in executions if one.unit in units]
                history.pauses = self.pauses
                history.left = reader.left()
                history.stuck = reader.stuck()
                history.total_done = history.left.pop("total_done")
                history.exits = [one for host in self.hosts for one in host.exits] if name == EFFECTS else []
                yield name, history

    def _promises(self, name: str) -> Promises:
        throttle = THROTTLE if self.plan.strategy == "Throttled" and name == EFFECTS else None
        strict = self.plan.strategy == "FIFO"
        return Promises(self.plan.limit, name == EFFECTS, strict and name == EFFECTS, throttle)

    def _jobs(self) -> dict[str, StripedJob]:
        return {name: StripedJob.model_validate(self._resource(name)) for name in (EFFECTS, ACTS)}

    def _resource(self, name: str) -> dict[str, Any]:
        handler = {"python": "effects:record", "transaction": True} if name == EFFECTS else {"python": "effects:act"}
        spec = SPEC | {"scheduleLimit": self.plan.limit, "handler": handler | {"timeoutSeconds": 60}}
        if name == EFFECTS:
            spec["strategy"] = self.plan.strategy
            if self.plan.strategy == "Throttled":
                spec["throttle"] = {
                    "maxOutstanding": THROTTLE.outstanding_max,
                    "rate": THROTTLE.rate,
                    "periodSeconds": int(THROTTLE.period_seconds),
                    "areaLabel": "area",
                }
        return {"apiVersion": "striped.dev/v1alpha1", "kind": "StripedJob", "metadata": {"name": name}, "spec": spec}

    def _make_hosts(self, clock: Path | None) -> None:
        (self.folder / "effects.py").write_text(HANDLERS.read_text())
        for name in (EFFECTS, ACTS):
            (self.folder / f"{name}.yaml").write_text(yaml.safe_dump(self._resource(name)))
        each = max(1, self.plan.workers // 2)
        self._make_host("one", "supervisor", EFFECTS, clock, "--workers", str(each), "--json")
        self._make_host("two", "supervisor", EFFECTS, clock, "--workers", str(each), "--json")
        self._make_host("three", "worker", EFFECTS, clock)
        self._make_host("four", "worker", ACTS, clock)

    def _make_host(self, name: str, role: Any, job: str, clock: Path | None, *options: str) -> None:
        folder = self.folder / name
        why_not = mount_volume(folder)
        if why_not:
            self.unsupported["log_full"] = why_not
        postgres = self.network.proxy(self.servers.postgres.port)
        valkey = self.network.proxy(self.servers.valkey.port)
        url, lock_url = self._through(postgres.port), f"redis://127.0.0.1:{valkey.port}"
        file = self.folder / f"{job}.yaml"
        command = [sys.executable, "-P", "-m", "stripedjob", COMMANDS[role]]
        if role == "supervisor":
            command += [str(file), "--postgres", url, "--redis", lock_url, *options]
        env = {
            "STRIPEDJOB_SPEC": file.read_text(),
            "STRIPEDJOB_POSTGRES_URL": url,
            "STRIPEDJOB_LOCK_URL": lock_url,
            "STRIPEDJOB_PATH": str(self.folder),
            "STRIPEDJOB_WORKER": name,
        }
        offset = None
        if clock is not None:
            offset = map_clock(folder / "clock")
            env |= {"LD_PRELOAD": str(clock), "FAULTS_CLOCK": str(folder / "clock")}
        self.hosts.append(Host(name, role, folder, command, env, postgres, valkey, offset))

    def _through(self, port: int) -> str:
        return f"postgresql://postgres@127.0.0.1:{port}/{self.plan.strategy.lower()}"

    def _has_room(self) -> bool:
        return self._waiting < BACKLOG_UNITS_MAX
