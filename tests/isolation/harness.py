"""Two or three sessions, each with named steps, taken in every order; a step that waits for a lock is seen to wait.

It knows nothing of the pool: a World says what the steps act on and what must hold. A session has a connection and a
thread. After each step the stage rests: every session has answered, or Postgres says whom it waits for. So an order
always ends in the same way, and nothing is awaited by the clock.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from tests.isolation.gates import COUNT, GATE_LOCK, stop_at, take_count
from tests.isolation.session import OPTIONS, Session

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

REST_SECONDS_MAX = 30.0  # a stage that does not come to rest within this is a fault of the harness or of the machine
LOOK_SECONDS = 0.001  # between two looks at a session that has not answered; twice as long after each,
LOOK_SECONDS_MAX = 0.016  # up to this, so that a long step is not looked at for most of the time
Order = tuple[str, ...]  # names of sessions: each takes its next step


class World(Protocol):
    """What the steps act on, and what must hold."""

    def watch(self) -> list[str]:
        """Say what is wrong now, between two steps, of what must always hold."""

    def judge(self) -> list[str]:
        """Say what is wrong after the last step, when nobody is in a transaction; whatever is left may be used up."""


W = TypeVar("W", bound=World)


@dataclass(frozen=True)
class Step(Generic[W]):
    """What a session does in one go. The action returns what the trace shows."""

    name: str
    action: Callable[[W, psycopg.Connection], object]


def transaction(*steps: Step[W], end: str = "commit") -> list[Step[W]]:
    """Put steps into a transaction: it begins with the first one, and `end` is a step of its own."""
    first = steps[0]

    def begin(world: W, conn: psycopg.Connection) -> object:
        conn.execute("begin")
        return first.action(world, conn)

    return [Step(first.name, begin), *steps[1:], Step(end, lambda _, conn: conn.execute(end.encode()).statusmessage)]


@dataclass(frozen=True)
class Spec(Generic[W]):
    """A world, sessions with their steps, and what may happen. `orders` None: every interleaving.

    `errors`: SQLSTATEs that a step may end with. `prompt`: sessions that never wait for another.
    """

    name: str
    world: Callable[[Stage], W]
    sessions: Mapping[str, Sequence[Step[W]]]
    orders: Sequence[Order] | None = None
    errors: frozenset[str] = frozenset()
    prompt: frozenset[str] = frozenset()


class InfeasibleError(Exception):
    """The order wants a step of a session that still waits; another order has that step later."""

    def __init__(self, prefix: Order) -> None:
        """Take the order up to that step."""
        super().__init__(" ".join(prefix))
        self.prefix = prefix


@dataclass
class Trace:
    """What was seen in one order: a line a step, and what is wrong."""

    lines: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n".join([*(f"    {line}" for line in self.lines), *(f"  ✗ {fault}" for fault in self.faults)])


class Stage:
    """An observer's connection, and the sessions' connections, which are used again for every order.

    `restorer`: one whose statements fire no triggers. Another session, since a change of that setting takes the plans
    of all its statements.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self.observer = psycopg.connect(url, autocommit=True, application_name="observer", options=OPTIONS)
        quiet = f"{OPTIONS} -c session_replication_role=replica"
        self.restorer = psycopg.connect(url, autocommit=True, application_name="restorer", options=quiet)
        self._sessions: dict[str, Session] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for session in self._sessions.values():
            self._end(session)
            session.close()
        self.restorer.close()
        self.observer.close()

    def session(self, name: str) -> Session:
        if name not in self._sessions:
            self._sessions[name] = Session(self._url, name)
        return self._sessions[name]

    def play(self, spec: Spec[W], order: Order) -> Trace:
        """Run one order and judge it; raises InfeasibleError where it is not possible."""
        world, trace = spec.world(self), Trace()
        left = {name: iter(steps) for name, steps in spec.sessions.items()}
        try:
            for n, name in enumerate(order):
                if self.session(name).busy:
                    raise InfeasibleError(order[: n + 1])
                self.take_step(spec, world, trace, name, next(left[name]))
            self.end(spec, world, trace)
        finally:
            self.reset(*spec.sessions)
        return trace

    def reset(self, *names: str) -> None:
        """End whatever these sessions do, and let them be as new."""
        for name in names:
            self._end(self.session(name))

    def take_step(self, spec: Spec[W], world: W, trace: Trace, name: str, step: Step[W]) -> None:
        """Begin a step of an idle session, and rest."""
        self.session(name).start(step.name, lambda conn: step.action(world, conn))
        self.rest(spec, world, trace, name)

    def rest(self, spec: Spec[W], world: W, trace: Trace, mover: str) -> None:
        """Wait until every session has answered, or is seen to wait; note what has come to pass, the mover first."""
        waits = self._await_rest([self.session(name) for name in spec.sessions])
        for name in sorted(spec.sessions, key=lambda name: name != mover):
            session = self.session(name)
            if session.answered:
                self._note(spec, trace, session)
            elif session.busy and self.observer.info.backend_pid not in waits[session.pid]:
                names = [other.name for other in self._sessions.values() if other.pid in waits[session.pid]]
                trace.lines.append(f"{session.step} waits for {', '.join(names)}")
                if name in spec.prompt:
                    trace.faults.append(f"{session.step} waits for {', '.join(names)}, and never should")
        trace.faults += [fault for fault in world.watch() if fault not in trace.faults]

    def end(self, spec: Spec[W], world: W, trace: Trace) -> None:
        """After the last step: nobody waits any more, and what must hold does."""
        stuck = [self.session(name).step for name in spec.sessions if self.session(name).busy]
        trace.faults += [f"{step} still waits after the last step" for step in stuck]
        if not stuck:
            trace.faults += world.judge()

    def _await_rest(self, sessions: Sequence[Session]) -> dict[int, list[int]]:
        """Return whom each session that has not answered waits for, by process ids of Postgres."""
        end, pause = time.monotonic() + REST_SECONDS_MAX, LOOK_SECONDS
        while running := [session for session in sessions if session.busy and not session.answered]:
            assert time.monotonic() < end, f"no rest: {[session.step for session in running]}"
            try:
                running[0].await_answer(pause)
                continue
            except TimeoutError:
                pause = min(2 * pause, LOOK_SECONDS_MAX)
            rows = self.observer.execute(
                "select pid, pg_blocking_pids(pid) from unnest(%s::int[]) pid", [[session.pid for session in running]]
            )
            waits: dict[int, list[int]] = dict(rows.fetchall())
            ours = {self.observer.info.backend_pid, *(session.pid for session in self._sessions.values())}
            if ours.issuperset(itertools.chain(*waits.values())) and _all_held(waits):
                return waits
        return {}

    def _note(self, spec: Spec[W], trace: Trace, session: Session) -> None:
        try:
            trace.lines.append(f"{session.step} → {session.take()}")
        except psycopg.Error as error:
            words = f"{session.step} failed: {error.sqlstate} {error.diag.message_primary or error}"
            trace.lines.append(words)
            if error.sqlstate not in spec.errors:
                trace.faults.append(words)

    def _end(self, session: Session) -> None:
        """Whatever a session still does ends, and it is as new."""
        while session.busy:
            self.observer.execute("select pg_cancel_backend(%s)", [session.pid])
            try:
                session.await_answer(LOOK_SECONDS)
                session.take()
            except (TimeoutError, psycopg.Error):
                continue
        if session.conn.info.transaction_status != TransactionStatus.IDLE:
            session.conn.execute("rollback")
        session.conn.execute("select pg_advisory_unlock_all()")
        session.conn.execute("reset all")  # what it remembers of ids and times, too: rows are put back

    def count_gates(self, spec: Spec[W]) -> int:
        """Let the first session take its first step alone, and count its gates: the last is before its second step."""
        world = spec.world(self)
        (first, (step, *_)), *_ = spec.sessions.items()
        try:
            stop_at(self.session(first).conn, COUNT)
            self.take_step(spec, world, Trace(), first, step)
        finally:
            self.reset(*spec.sessions)
        return take_count(self.observer) + 1

    def preempt(self, spec: Spec[W], gate: int) -> Trace:
        """Stop the first session at its n-th gate, let the second do all it has to, and the first the rest."""
        world, trace = spec.world(self), Trace()
        (first, (step, *rest)), (second, others) = spec.sessions.items()
        session = self.session(first)
        self.observer.execute("select pg_advisory_lock(%s, %s)", [GATE_LOCK, session.pid])
        try:
            stop_at(session.conn, gate)
            self.take_step(spec, world, trace, first, step)
            for other in others:
                if not self.session(second).busy:
                    self.take_step(spec, world, trace, second, other)
            self.observer.execute("select pg_advisory_unlock(%s, %s)", [GATE_LOCK, session.pid])
            self.rest(spec, world, trace, first)
            for later in rest:
                self.take_step(spec, world, trace, first, later)
            self.end(spec, world, trace)
        finally:
            self.observer.execute("select pg_advisory_unlock_all()")
            self.reset(*spec.sessions)
        return trace


def _all_held(waits: Mapping[int, Sequence[int]]) -> bool:
    """Return whether everybody waits for somebody who is at rest, at the end; those who wait in a circle are not."""
    held = {pid for pid, others in waits.items() if set(others) - set(waits)}
    while more := {pid for pid, others in waits.items() if held.intersection(others)} - held:
        held |= more
    return len(held) == len(waits)
