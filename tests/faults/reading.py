"""Makes a History of what was written down during a run: the database's own tables, and the files of the processes."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.faults.history import Change, Effect, Enqueued, Execution, Outcome, Recorded

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

WRITTEN_DOWN = (Path(__file__).parent / "history.sql").read_text()
CHANGES = """
select resource, before, after, fence_before, fence_after, worker, area, {began}, {at}
from history.change where job_id = %(job)s order by at"""
EFFECTS = "select unit, resource, fence, {committed} from history.effect order by 4, n"
SCHEDULED = "select unit, resource, {at}, 'infinity'::float8 from history.scheduled where job_id = %(job)s"
RECORDED = "select unit, {at} from history.recorded where job_id = %(job)s order by 2"
LEFT = """
select pending, delayed, held, dead, ready_resources + leased_resources + waiting_resources as resources, total_done
from striped.job_status where id = %(job)s"""

STUCK = """
select striped.explain(job_id, resource) from (
    select job_id, resource from striped.stripe where job_id = %(job)s union
    select job_id, resource from striped.wake where job_id = %(job)s limit 3) some_of_them"""


@dataclass(frozen=True, slots=True)
class Clock:
    """Where the monotonic clock stood at a moment of the wall clock, by which the database's times are read."""

    wall: float
    monotonic: float

    @classmethod
    def now(cls) -> Clock:
        """Take both at once."""
        return cls(time.time(), time.monotonic())


class Reader:
    """Reads the history of one job, over a connection of its own."""

    def __init__(self, conn: psycopg.Connection[Any], job_id: int, clock: Clock) -> None:
        """Take the job, and the clocks of the run."""
        self._conn, self._job_id, self._clock = conn, job_id, clock

    def changes(self) -> list[Change]:
        """Return what became of the job's stripes, in order."""
        return [Change(*row) for row in self._rows(CHANGES)]

    def effects(self) -> list[Effect]:
        """Return the effects by the time of their commit, and in their order where they committed together."""
        return [Effect(*row) for row in self._rows(EFFECTS)]

    def scheduled(self) -> list[Enqueued]:
        """Return the units that a schedule put in; nobody was told when they were committed."""
        return [
            Enqueued(unit, resource, began, ended, Outcome.OK) for unit, resource, began, ended in self._rows(SCHEDULED)
        ]

    def recorded(self) -> list[Recorded]:
        """Return the units that are done."""
        return [Recorded(*row) for row in self._rows(RECORDED)]

    def left(self) -> dict[str, int]:
        """Return what the pool holds and has counted, by name."""
        cursor = self._conn.execute(LEFT.encode(), {"job": self._job_id})
        names = [column.name for column in cursor.description or ()]
        return dict(zip(names, map(int, cursor.fetchone() or ()), strict=True))

    def stuck(self) -> list[str]:
        """Return what explain() says of some resources that are still there."""
        return [str(row[0]) for row in self._rows(STUCK)]

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        shift = "{monotonic} + extract(epoch from {column} - to_timestamp({wall}))::float8"
        times = {
            name: shift.format(monotonic=self._clock.monotonic, wall=self._clock.wall, column=column)
            for name, column in {"began": "began", "at": "at", "committed": "pg_xact_commit_timestamp(xmin)"}.items()
        }
        return self._conn.execute(query.format(**times).encode(), {"job": self._job_id}).fetchall()


def read_enqueued(folder: Path, job: str) -> list[Enqueued]:
    """Read what the clients wrote of a job's units; an invocation without an end is UNKNOWN."""
    found: list[Enqueued] = []
    for path in folder.glob("client-*.jsonl"):
        invoked: dict[int, Any] = {}
        for line in path.read_text().splitlines():
            record = json.loads(line)
            if record["type"] == "invoke":
                invoked[record["op"]] = record
            else:
                found += _units(invoked.pop(record["op"]), Outcome(record["type"]), record["at"], job)
        for record in invoked.values():
            found += _units(record, Outcome.UNKNOWN, record["at"], job)
    return found


def _units(invoked: Any, outcome: Outcome, at: float, job: str) -> Iterator[Enqueued]:
    for of, unit, resource, kept in invoked["units"]:
        if of == job:
            yield Enqueued(unit, resource, invoked["began"], at, outcome if kept else Outcome.FAIL)


def read_executions(folder: Path) -> list[Execution]:
    """Read what the handlers wrote; of an execution that was killed there is a beginning only."""
    found = []
    for path in folder.glob("*.log"):
        open_: dict[tuple[str, str], Execution] = {}
        for line in path.read_text().splitlines():
            what, at, pid, unit, fence, resource = line.split()
            key = unit, fence
            if what == "began":
                if key in open_:
                    found.append(open_.pop(key))
                open_[key] = Execution(int(unit), resource, int(fence), int(pid), int(at) / 1e9, None)
            else:
                one = open_.pop(key)
                found.append(Execution(one.unit, resource, one.fence, one.pid, one.began, int(at) / 1e9))
        found += open_.values()
    return found
