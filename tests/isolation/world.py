"""One job in the pool, made again for every order, with what its workers know; its methods are what sessions do.

Every method takes the connection that it is to use: a session's, or `world.conn` to set the scene.
"""

from __future__ import annotations

import datetime as dt
import itertools
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING

import psycopg
from tests.isolation import calls, judge
from tests.isolation.snapshot import Snapshot

from stripedjob.pool.types import JobSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.isolation.calls import Leased, Worker
    from tests.isolation.harness import Stage

MUTEX = JobSettings("default", "mutex", schedule_limit=2, lease_seconds=3600, crash_threshold=100)
FIFO = replace(MUTEX, job_type="fifo", on_failure="Block")
DELEGATED = replace(MUTEX, job_type="delegated", delegated=True)
THROTTLED = replace(
    DELEGATED, job_type="throttled", outstanding_max=100, starts_max=1000, period_seconds=1, area_label="shop"
)
FAR = dt.datetime(2999, 1, 1, tzinfo=dt.UTC)
Batch = tuple[int, list[tuple["Leased", str, str]]]  # its number; leases, what follows, where their units go
numbers = itertools.count(1)


@dataclass
class World:
    """A job, and what its workers know: which leases each was given and has not ended."""

    conn: psycopg.Connection
    job: JobSettings
    snapshot: Snapshot | None
    verdicts: dict[str, list[str]]  # of the states that orders of this scene ended in
    cap: int  # the highest schedule_limit that was ever in force
    id: int = 0
    workers: dict[str, Worker] = field(default_factory=dict)
    first: dict[str, Worker] = field(default_factory=dict)  # as they were before a new session took over
    known: dict[str, dict[str, Leased]] = field(default_factory=dict)
    told: dict[tuple[str, str], Leased] = field(default_factory=dict)  # by worker and resource, the last one
    handed_out: list[Leased] = field(default_factory=list)
    batches: int = 0
    batch: dict[str, Batch] = field(default_factory=dict)
    terms: dict[str, int] = field(default_factory=dict)
    periods: int = 0
    checks: tuple[Callable[[World], list[str]], ...] = ()  # what a scene wants to hold besides

    @classmethod
    def of(cls, stage: Stage, job: JobSettings, scene: Callable[[World], None]) -> World:
        """Make the job under a name of its own, and the scene in it."""
        conn = stage.observer
        world = cls(conn, replace(job, job_type=f"{job.job_type}-{next(numbers)}"), None, {}, job.schedule_limit)
        world.id = calls.apply_job(conn, world.job)
        scene(world)
        world.snapshot = Snapshot(conn, stage.restorer, world.id)
        return world

    def again(self) -> World:
        """Put the scene back, for another order."""
        shared = ("conn", "snapshot", "verdicts")
        kept = {field.name: copy(getattr(self, field.name)) for field in fields(self) if field.name not in shared}
        assert self.snapshot is not None
        self.snapshot.restore()
        kept["known"] = {name: dict(leases) for name, leases in self.known.items()}
        return World(conn=self.conn, snapshot=self.snapshot, verdicts=self.verdicts, **kept)

    def watch(self) -> list[str]:
        return judge.watch(self)

    def judge(self) -> list[str]:
        """A state that was judged before need not be judged again."""
        assert self.snapshot is not None
        state = f"{self.job}\n{judge.knowledge(self)}\n{self.snapshot.state()}"
        if state not in self.verdicts:
            self.verdicts[state] = judge.judge(self)
        return self.verdicts[state]

    # Workers

    def register(self, conn: psycopg.Connection, name: str) -> None:
        self.workers[name] = self.first[name] = calls.register(conn, self.id, name)
        self.known[name] = {}

    def claim(self, conn: psycopg.Connection, name: str, resources: int = 10, units: int = 10) -> str:
        self.batch.pop(name, None)
        with self._lost(name):
            leased = calls.claim(conn, self.workers[name], resources, units)
        self.known[name] |= {one.resource: one for one in leased}
        self.told |= {(name, one.resource): one for one in leased}
        return self._handed_out(leased)

    def claim_unheard(self, conn: psycopg.Connection, name: str) -> str:
        """Claim in the worker's first session, where the answer is lost on its way: the worker never learns of it."""
        return self._handed_out(calls.claim(conn, self.first[name], 10, 10))

    def settle(self, conn: psycopg.Connection, name: str, only: str = "", then: str = "", to: str = "") -> list[str]:
        """Settle what the worker knows of, or one lease: its units done, or `to`; again unless it claimed."""
        number, ended = self._batch(name, only, then, to)
        refused = calls.settle(conn, self.id, self.workers[name], number, ended)
        for one, what, _ in ended:
            if what != "keep" or one.resource in refused:
                self.known[name].pop(one.resource, None)
        return refused

    def settle_unheard(self, conn: psycopg.Connection, name: str) -> list[str]:
        """Settle where the answer is lost on its way."""
        return calls.settle(conn, self.id, self.workers[name], *self._batch(name, "", "", ""))

    def _batch(self, name: str, only: str, then: str, to: str) -> Batch:
        if name not in self.batch:
            known = [one for one in self.known[name].values() if not only or one.resource == only]
            self.batches += 1
            self.batch[name] = (self.batches, [(one, then or ("ready" if one.more else "idle"), to) for one in known])
        return self.batch[name]

    def complete(self, conn: psycopg.Connection, name: str, resource: str) -> bool:
        """Record the units of a lease as done, in a transaction that is undone where it is refused."""
        with conn.transaction() as recording:
            done = calls.complete(conn, self.id, self.workers[name], self.told[name, resource])
            if not done:
                raise psycopg.Rollback(recording)
        return done

    def resume(self, conn: psycopg.Connection, name: str) -> list[int]:
        with self._lost(name):
            fences = [one.fence for one in self.known[name].values()]
            self.workers[name], lost = calls.resume(conn, self.workers[name], fences)
        return self._forget(name, lost)

    def renew(self, conn: psycopg.Connection, name: str) -> list[int]:
        with self._lost(name):
            lost = calls.renew(conn, self.workers[name], [one.fence for one in self.known[name].values()])
        return self._forget(name, lost)

    def _forget(self, name: str, lost: list[int]) -> list[int]:
        self.known[name] = {key: one for key, one in self.known[name].items() if one.fence not in lost}
        return lost

    def poll(self, conn: psycopg.Connection, name: str) -> bool:
        with self._lost(name):
            return calls.poll(conn, self.workers[name])

    def leave(self, conn: psycopg.Connection, name: str) -> None:
        calls.leave(conn, self.workers[name])
        self.known[name] = {}

    def expire(self, conn: psycopg.Connection, name: str) -> None:
        """Let a worker's lease run out."""
        past = "update striped.worker set expires_at = clock_timestamp() - interval '1 s' where id = %s"
        conn.execute(past, [self.workers[name].id])

    # What keeps the pool up

    def upkeep(self, conn: psycopg.Connection) -> None:
        calls.upkeep(conn, self.id)

    def clean(self, conn: psycopg.Connection) -> None:
        calls.clean(conn, self.id)

    def note_times(self, conn: psycopg.Connection) -> None:
        calls.note_times(conn, self.id)

    def tend(self, conn: psycopg.Connection) -> None:
        calls.tend(conn, self.id)

    def lead(self, conn: psycopg.Connection, name: str) -> int | None:
        term = calls.lead(conn, self.id, name)
        if term is not None:
            self.terms[name] = term
        return term

    def delegate(self, conn: psycopg.Connection, name: str) -> int:
        return calls.delegate(conn, self.id, self.terms[name])

    def end_term(self, conn: psycopg.Connection, name: str) -> None:
        """Let a delegator's lease run out."""
        past = "update striped.delegator set expires_at = '-infinity' where job_id = %s and term = %s"
        conn.execute(past, [self.id, self.terms[name]])

    def resign(self, conn: psycopg.Connection, name: str) -> None:
        calls.resign(conn, self.id, self.terms[name])

    # What comes in, and what people do

    def enqueue(
        self, conn: psycopg.Connection, resource: str, due_in: float | None = None, dedup_id: str | None = None
    ) -> int:
        return calls.enqueue(conn, self.job.job_type, resource, due_in, dedup_id)

    def enqueue_behind_later(self, conn: psycopg.Connection, resource: str) -> int:
        """Put in a unit that is due in an hour, and one after it."""
        self.enqueue(conn, resource, 3600)
        return self.enqueue(conn, resource)

    def enqueue_rows(self, conn: psycopg.Connection, *resources: str) -> int:
        return calls.enqueue_rows(conn, self.job.job_type, resources, [])

    def enqueue_with_ids(self, conn: psycopg.Connection, *resources: str) -> int:
        """Put in a unit of each resource, whose deduplication id is the resource's name."""
        return calls.enqueue_rows(conn, self.job.job_type, resources, resources)

    def fire(self, conn: psycopg.Connection, query: str | None = None) -> int | None:
        """Serve a period of the job's schedule that nobody has served."""
        self.periods += 1
        return calls.fire(conn, self.id, FAR + dt.timedelta(days=self.periods), query)

    def fire_once(self, conn: psycopg.Connection, query: str) -> int | None:
        """Serve the same period as others do; its units are of the resource `period`, and are there once."""
        return calls.fire(conn, self.id, FAR, query)

    def apply(self, conn: psycopg.Connection, job: JobSettings) -> None:
        """Change the job's settings: those of `job` under this one's name."""
        self.job = replace(job, job_type=self.job.job_type, generation=self.job.generation + 1)
        self.cap = max(self.cap, job.schedule_limit)
        assert calls.apply_job(conn, self.job) == self.id

    def revive(self, conn: psycopg.Connection, state: str) -> int:
        return calls.revive(conn, self.id, state)

    def purge(self, conn: psycopg.Connection, state: str) -> int:
        return calls.purge(conn, self.id, state)

    def cancel(self, conn: psycopg.Connection, state: str) -> tuple[int, int]:
        return calls.cancel(conn, self.id, state)

    def retry_now(self, conn: psycopg.Connection) -> int:
        return calls.retry_now(conn, self.id)

    def pause(self, conn: psycopg.Connection, resource: str) -> bool:
        return calls.pause(conn, self.id, resource)

    def resume_paused(self, conn: psycopg.Connection, resource: str) -> bool:
        return calls.resume_paused(conn, self.id, resource)

    def pause_job(self, conn: psycopg.Connection) -> bool:
        return calls.pause_job(conn, self.id)

    def resume_job(self, conn: psycopg.Connection) -> bool:
        return calls.resume_job(conn, self.id)

    def clear(self, conn: psycopg.Connection) -> int:
        return calls.clear(conn, self.id)

    def _handed_out(self, leased: list[Leased]) -> str:
        self.handed_out += leased
        return ", ".join(map(str, leased)) or "nothing"

    @contextmanager
    def _lost(self, name: str) -> Iterator[None]:
        """A worker that learns that it is considered dead knows of no lease any more."""
        try:
            yield
        except psycopg.Error as error:
            if error.sqlstate == calls.LOST:
                self.known[name] = {}
            raise
