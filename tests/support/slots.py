"""A slot of an executor in this process: a lease of real units, a handler of the test, and what is said of them."""

from __future__ import annotations

import asyncio
import itertools
import math
from typing import TYPE_CHECKING, Any

from tests.support.blocking import Blocking
from tests.support.worker_env import Site

from stripedjob.pool.types import Database
from stripedjob.runtime.executor.progress import Progress, Reporter
from stripedjob.runtime.executor.sharing import Sharing, SharingAsync
from stripedjob.runtime.executor.wire import Config, Task
from stripedjob.runtime.handlers.results import Finishing, finishing_async
from stripedjob.runtime.handlers.settings import HandlerSettings
from stripedjob.runtime.shared_state import SharedState

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from stripedjob.runtime.outcome import Outcome
    from stripedjob.unit import Unit

    Work = Callable[[Unit, psycopg.Connection], Any]


class Slot:
    """`units` units of one resource, leased; their payloads are their numbers, or what is given."""

    def __init__(self, url: str, kind: str, units: int = 20, *, block: bool = False, payload: str = "") -> None:
        self.site, self.kind, self.time = Site(url), kind, 0.0
        self.site.sql(
            "insert into striped.unit (job_id, resource, payload)"
            " select %s, 'r', coalesce(nullif(%s, '')::json, to_json(n)) from generate_series(0, %s) n",
            [self.site.job_id, payload, units - 1],
        )
        self.database = Database(url, "striped", self.site.job_id, "tested")
        self.shared_state = SharedState.create(1)
        self.shared_state.deadline = math.inf
        self.calls: list[int] = []  # the units with which the handler was called
        self.outcomes: list[Outcome] = []
        self.recorded: list[int] = []  # of each outcome, how many units were left when it was said
        self._config = Config(HandlerSettings("python", ("none:none",), database=self.database), block=block)
        self._keys = itertools.count()
        self._lease()

    def _lease(self) -> None:
        worker = self.site.sql("select striped.register(%s, 'w')", [self.site.job_id])[0][0]
        self.site.sql("select striped.upkeep(%s)", [self.site.job_id])
        query = "select resources, fences, ids, payloads from striped.claim(%s, 0, 1, 1000, 100000000)"
        ((_,), (fence,), ids, payloads) = self.site.sql(query, [worker])[0]
        texts = tuple(map(str, payloads))
        self.task = Task(next(self._keys), "r", fence, tuple(ids), (0,) * len(ids), texts, worker)

    def work(self, function: Work) -> None:
        """Work on the lease as an executor does, with this handler, given as a plain function of a plain connection."""
        reporter = Reporter(self._say, lambda: False)
        progress = Progress(self.task, self.shared_state, 0, self._config, reporter, cancelled={})

        def handle(unit: Unit, conn: psycopg.Connection) -> None:
            self.calls.append(self.task.ids.index(unit.id))
            function(unit, conn)

        async def handle_async(unit: Unit, conn: psycopg.AsyncConnection) -> None:
            self.calls.append(self.task.ids.index(unit.id))
            await asyncio.to_thread(function, unit, Blocking(conn, asyncio.get_running_loop()))  # type: ignore[arg-type]

        async def work_async() -> None:
            sharing = SharingAsync(finishing_async(handle_async), self.database, lambda: self.time)
            await sharing(progress)
            await sharing.aclose()

        if self.kind == "async":
            asyncio.run(work_async())
        else:
            sharing = Sharing(Finishing(handle), self.database, lambda: self.time)
            sharing(progress)
            sharing.close()

    def _say(self, outcomes: list[Outcome]) -> None:
        left = self.site.sql("select count(*) from striped.unit where state = 'ready'")[0][0]
        self.outcomes += outcomes
        self.recorded += [len(self.task.ids) - left] * len(outcomes)

    @property
    def faults(self) -> dict[int, str]:
        """Units that were tried and not done, and why."""
        return {fault.index: fault.reason for outcome in self.outcomes for fault in outcome.faults}

    @property
    def tried(self) -> int:
        """How many units count as tried."""
        return self.outcomes[-1].tried

    def left(self) -> list[int]:
        """The units that are not recorded as done."""
        rows = self.site.sql("select id from striped.unit order by id")
        return [self.task.ids.index(unit) for (unit,) in rows]

    def effects(self) -> list[int]:
        """The units whose effect is there, as often as it is."""
        rows = self.site.sql("select unit from effect order by unit")
        return [self.task.ids.index(unit) for (unit,) in rows]

    def transactions(self) -> list[int]:
        """How many effects each transaction has."""
        rows = self.site.sql("select count(*) from effect group by resource order by min(unit)")
        return [number for (number,) in rows]


def effect(unit: Unit, conn: psycopg.Connection) -> None:
    """Write the unit down, and the number of the transaction."""
    conn.execute("insert into effect (unit, resource) values (%s, pg_current_xact_id()::text)", [unit.id])
