"""The worker with a userspace mutex: pages of 100 rows from id 0, a try-lock a row, and no second look at the row.

    read a page → for each row: try the mutex of its resource → work → delete the row → release the mutex

A run ends after 100 executions, and then schedules two more of itself; or at the end of the table, and then schedules
none. The mutex has no owner, no expiry and no fence, and a refusal leaves its WATCH behind.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg
import redis
from tests.reference.steps import Steps, interleave

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE_ROWS = 100
RUN_EXECUTIONS = 100
SUCCESSORS = 2
STEPS_A_ROW_MAX = 1_000  # far more than any run takes
PAGE = "select id, resource from work where id > %s order by id limit %s"


class Mutexes:
    """One worker's mutexes, over a connection of its own, which is what WATCH belongs to."""

    def __init__(self, client: redis.Redis) -> None:
        self.tries = 0
        self._client, self._pipe = client, client.pipeline()

    def close(self) -> None:
        self._pipe.reset()

    def try_lock(self, key: str) -> bool:
        """WATCH, GET, and where nobody has it MULTI, SET, EXEC."""
        self.tries += 1
        self._pipe.watch(key)  # type: ignore[no-untyped-call]
        if self._pipe.get(key) is not None:
            return False  # and the WATCH stays
        self._pipe.multi()
        self._pipe.set(key, "locked")
        try:
            self._pipe.execute()
        except redis.WatchError:
            return False
        return True

    def release(self, key: str) -> None:
        """DEL, whoever holds it."""
        self._client.delete(key)


@dataclass
class Replay:
    """A table of work and the runs on it; `executions` are (resource, row), in their order.

    `stranded`: rows that are left when no run is.
    """

    url: str
    lock_url: str
    workers: int
    seed: int
    executions: list[tuple[str, int]] = field(default_factory=list)
    lock_tries: int = 0
    stranded: int = 0

    def play(self, resources: Sequence[str]) -> Replay:
        """Put in a row for each of these, in this order, and work until no run is left."""
        with ExitStack() as stack:
            free = [self._place(stack) for _ in range(self.workers)]
            conn = free[0][0]
            fill(conn, resources)

            def run() -> Steps:
                place = free.pop()
                executed = yield from self._run(*place)
                free.append(place)
                return SUCCESSORS if executed == RUN_EXECUTIONS else 0

            assert interleave(run, self.workers, self.seed, STEPS_A_ROW_MAX * len(resources)), "it does not end"
            self.lock_tries = sum(mutexes.tries for _, mutexes in free)
            self.stranded = conn.execute("select count(*) from work").fetchall()[0][0]
        return self

    def _place(self, stack: ExitStack) -> tuple[psycopg.Connection, Mutexes]:
        conn = stack.enter_context(psycopg.connect(self.url, autocommit=True))
        client = stack.enter_context(redis.Redis.from_url(self.lock_url))
        return conn, stack.enter_context(closing(Mutexes(client)))

    def _run(self, conn: psycopg.Connection, mutexes: Mutexes) -> Steps:
        """One run; returns how many rows it has executed."""
        cursor = executed = 0
        while rows := conn.execute(PAGE, [cursor, PAGE_ROWS]).fetchall():
            yield
            for row, resource in rows:
                cursor, key = row, f"model/{resource}"
                got = mutexes.try_lock(key)
                yield
                if not got:
                    continue
                self.executions.append((resource, row))
                yield
                conn.execute("delete from work where id = %s", [row])
                yield
                mutexes.release(key)
                executed += 1
                if executed == RUN_EXECUTIONS:
                    return executed
        return executed


def fill(conn: psycopg.Connection, resources: Sequence[str]) -> None:
    """Make the table, with a row for each of these."""
    conn.execute("drop table if exists work")
    conn.execute("create table work (id int primary key generated always as identity, resource text not null)")
    conn.execute("insert into work (resource) select unnest(%s::text[])", [list(resources)])
