"""Whatever the order of decisions to call, commits, and what workers do: a unit is found as soon as workers promise.

Two transactions put a unit in each, and workers sleep as the real ones do, by their own rules of when to look; all of
it at every set of times, in a database whose clock the test turns. Times are in milliseconds.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg
import pytest
from tests.isolation import calls
from tests.isolation.world import MUTEX
from tests.support.engines import new_database
from tests.support.leases import lease
from tests.support.turned import turn, turned

from stripedjob.pool.install.migrate import migrate
from stripedjob.runtime.idle import Idle
from stripedjob.runtime.worker.claiming import Claiming
from stripedjob.runtime.worker.keeper import Keeper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FOUND_MS_MAX = 110  # after its commit: the second look of who was busy, which comes after 100 ms, and the way of a call
WAY_MS = 1  # of a call to who sleeps
POLL_MS = 3000  # between two looks at most of who is idle
BEGAN = (0, 8)  # when the first decides; where in its 10 ms that is
LATER = (0, 2, 5, 9, 12, 19, 26, 45)  # that the second decides
RESOURCES_MAX = 500  # of a claim, where units take no time
TAKES = (1, 25)  # from a decision to when its commit is seen
numbers = itertools.count(1)


@dataclass
class Play:
    """A job, its time, and what is to come. `long`: units take for ever, else no time at all."""

    conn: psycopg.Connection
    job_id: int
    long: bool
    start: int
    now: int = 0
    agenda: list[tuple[int, int, Callable[[], None]]] = field(default_factory=list)
    seen: dict[str, int] = field(default_factory=dict)  # when a unit's commit was seen
    found: dict[str, int] = field(default_factory=dict)
    crew: list[Sleeper] = field(default_factory=list)

    def at(self, ms: int, act: Callable[[], None]) -> None:
        heapq.heappush(self.agenda, (ms, next(numbers), act))

    def run(self, until: int) -> None:
        while self.agenda and self.agenda[0][0] <= until:
            self.now, _, act = heapq.heappop(self.agenda)
            turn(self.conn, self.start + self.now)
            act()
            self.hear()

    def hear(self) -> None:
        """Let those who sleep hear who is called."""
        self.conn.execute("select 1")
        for call in self.conn.notifies(timeout=0):
            for one in self.crew:
                if str(one.worker.id) in call.payload.split(","):
                    self.at(self.now + WAY_MS, one.called)

    def seconds(self) -> float:
        return self.now / 1000


class Sleeper:
    """A worker as its loop has it: it looks, takes what there is, and sleeps by Idle and Keeper."""

    def __init__(self, play: Play, name: str) -> None:
        self.play, self.worker = play, calls.register(play.conn, play.job_id, name)
        self.idle, self.keeper = Idle(play.seconds), Keeper(play.seconds)
        self.claiming = Claiming(play.seconds, gathers=True)
        self.batches, self.turns, self.busy = itertools.count(1), 0, False

    def called(self) -> None:
        if not self.busy:
            self.idle.was_busy()
            self.look()

    def look(self) -> None:
        conn, job_id = self.play.conn, self.play.job_id
        calls.upkeep(conn, job_id)
        wanted = 1 if self.play.long else RESOURCES_MAX
        taken = calls.claim(conn, self.worker, wanted, 10)
        self.play.found |= {one.resource: self.play.now for one in taken}
        leases = [lease(one.resource)._replace(more=one.more) for one in taken]
        self.claiming.claimed(leases, wanted, self.play.seconds())
        if taken and self.play.long:
            self.busy = True
            self.keeper.claimed()
            self.sleep(self.keep_up, self.keeper.due_seconds())
            return
        if taken:
            calls.settle(conn, job_id, self.worker, next(self.batches), [(one, "idle", "") for one in taken])
            self.idle.was_busy()
        if (seconds := self.claiming.rest()) > 0:
            self.sleep(self.gathered, seconds)
        elif self.claiming.comes_again():
            self.look()
        else:
            self.ask()

    def gathered(self) -> None:
        self.idle.was_busy()
        if self.claiming.comes_again():
            self.look()
        else:
            self.ask()

    def ask(self) -> None:
        if calls.poll(self.play.conn, self.worker):
            self.look()
        else:
            self.sleep(self.ask, self.idle.pause_seconds())

    def keep_up(self) -> None:
        self.keeper.kept_up()
        self.play.conn.execute("select striped.keep_up(%s)", [self.play.job_id])
        self.sleep(self.keep_up, self.keeper.due_seconds())

    def sleep(self, then: Callable[[], None], seconds: float) -> None:
        """Do this after so long, unless something else came between."""
        self.turns += 1
        mine = self.turns
        self.play.at(
            self.play.now + min(POLL_MS, max(1, round(seconds * 1000))), lambda: then() if mine == self.turns else None
        )


def put(play: Play, conn: psycopg.Connection, resource: str, decides: int, commits: int) -> None:
    """Have a unit put in by a transaction that decides and commits at these times."""

    def decide() -> None:
        conn.execute("begin")
        calls.enqueue(conn, MUTEX.job_type, resource, None, None)
        conn.execute("set constraints all immediate")

    def commit() -> None:
        conn.execute("commit")
        play.seen[resource] = play.now

    play.at(decides, decide)
    play.at(commits, commit)


@pytest.fixture(scope="module")
def three(postgres_url: str) -> Iterator[list[psycopg.Connection]]:
    """Yield connections of workers, and of two who put units in."""
    with new_database(postgres_url) as url:
        conns = [psycopg.connect(url, autocommit=True) for _ in range(3)]
        migrate(conns[0])
        turned(conns[0])
        yield conns
        for conn in conns:
            conn.close()


@pytest.mark.parametrize("long", [False, True], ids=["quick", "long"])
@pytest.mark.parametrize("asleep", [True, False], ids=["asleep", "just settled"])
def test_every_set_of_times(three: list[psycopg.Connection], *, asleep: bool, long: bool) -> None:
    workers, *applications = three
    job_id = calls.apply_job(workers, MUTEX)
    workers.execute(f'listen "striped_striped_{job_id}"')
    late = []
    for n, (began, later, *takes) in enumerate(itertools.product(BEGAN, LATER, TAKES, TAKES)):
        workers.execute("truncate striped.unit, striped.stripe, striped.wake, striped.worker cascade")
        play = Play(workers, job_id, long, 1_000_000 * (n + 1))
        play.crew = [Sleeper(play, name) for name in ("one", "two")]
        turn(workers, play.start - 10_000)
        for one in play.crew:
            calls.poll(workers, one.worker)
        play.now = -2000 if asleep else 0
        turn(workers, play.start + play.now)
        if not asleep:
            query = "update striped.worker set settled_at = striped.clock(), working = true where id = %s"
            workers.execute(query, [play.crew[0].worker.id])
        for one in play.crew[:1]:
            one.idle.was_busy()
            one.sleep(one.ask, one.idle.pause_seconds())
        put(play, applications[0], "a", began, began + takes[0])
        put(play, applications[1], "b", began + later, began + later + takes[1])
        play.run(until=500)
        times = {name: play.found.get(name, 10_000) - seen for name, seen in play.seen.items()}
        if max(times.values()) > FOUND_MS_MAX:
            late.append((began, later, *takes, times))
    assert not late
