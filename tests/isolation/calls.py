"""How SQL calls the pool: the one place that knows the arguments of its routines."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence

    import psycopg

    from stripedjob.pool.types import JobSettings

LOST = "SJ001"  # the worker has no row any more
BYTES = 1 << 20  # of one claim
UNITS = 1000  # of one call of a person
OUTLIVED = "SJ002"  # the worker has a newer session
SESSIONS = itertools.count(1)  # each is greater than all before


@dataclass(frozen=True)
class Worker:
    """A registration: the worker's id, and the number of the session over which it comes."""

    id: int
    session: int = 0


@dataclass(frozen=True)
class Leased:
    """One row of a claim."""

    resource: str
    fence: int
    ids: tuple[int, ...]
    more: bool = False

    def __str__(self) -> str:
        return f"{self.resource}#{self.fence}{list(self.ids)}"


def value(conn: psycopg.Connection, query: str, *values: Any) -> Any:
    """Return the first column of the first row."""
    row = conn.execute(query.encode(), values).fetchone()
    assert row is not None
    return row[0]


def apply_job(conn: psycopg.Connection, job: JobSettings) -> int:
    values = job.as_values()
    return int(value(conn, f"select striped.apply_job({', '.join(['%s'] * len(values))})", *values))


def register(conn: psycopg.Connection, job_id: int, name: str) -> Worker:
    return Worker(int(value(conn, "select striped.register(%s, %s)", job_id, name)))


def claim(conn: psycopg.Connection, worker: Worker, resources: int, units: int) -> list[Leased]:
    row = conn.execute(
        "select resources, fences, counts, more, ids from striped.claim(%s, %s, %s, %s, %s)",
        [worker.id, worker.session, resources, units, BYTES],
    ).fetchone()
    if row is None:
        return []
    names, fences, counts, more, ids = row
    ends = list(itertools.accumulate(counts))
    return [
        Leased(name, fence, tuple((ids or ())[end - count : end]), has_more)
        for name, fence, count, end, has_more in zip(names, fences, counts, ends, more, strict=True)
    ]


def settle(
    conn: psycopg.Connection, job_id: int, worker: Worker, batch: int, ended: Sequence[tuple[Leased, str, str]]
) -> list[str]:
    """Settle leases, each with what follows and where its units go: '', they are done. Returns what was refused."""
    failed = [
        {"id": unit, "to": to, "attempts": 1, "crashes": 0, "after": 0, "reason": "it failed", "kind": "it failed"}
        for leased, _, to in ended
        if to
        for unit in leased.ids
    ]
    done = [[] if to else list(leased.ids) for leased, _, to in ended]
    refused = value(
        conn,
        "select refused from striped.settle(%s, %s, %s, %s::text[], %s::bigint[], %s::int[], %s::text[], %s::float8[],"
        " %s::bigint[], %s, 0, 0, 0)",
        job_id,
        worker.id,
        batch,
        [leased.resource for leased, _, _ in ended],
        [leased.fence for leased, _, _ in ended],
        [len(ids) for ids in done],
        [then for _, then, _ in ended],
        [float("inf") if then == "wait" else None for _, then, _ in ended],
        [unit for ids in done for unit in ids],
        json.dumps(failed) if failed else None,
    )
    return list(refused)


def complete(conn: psycopg.Connection, job_id: int, worker: Worker, leased: Leased) -> bool:
    query = "select striped.complete(%s, %s, %s, %s, %s::bigint[])"
    return bool(value(conn, query, job_id, worker.id, leased.resource, leased.fence, list(leased.ids)))


def resume(conn: psycopg.Connection, worker: Worker, fences: Sequence[int]) -> tuple[Worker, list[int]]:
    """Take a worker over with a new session, and give back leases with other fences; returns which were lost."""
    query = "select striped.resume(%s, %s, %s::bigint[])"
    session = next(SESSIONS)
    return Worker(worker.id, session), list(value(conn, query, worker.id, session, list(fences)))


def renew(conn: psycopg.Connection, worker: Worker, fences: Sequence[int]) -> list[int]:
    """Return those of the fences under which the worker holds nothing any more."""
    return list(value(conn, "select striped.renew(%s, %s::bigint[])", worker.id, list(fences)))


def poll(conn: psycopg.Connection, worker: Worker) -> bool:
    return bool(value(conn, "select claimable from striped.poll(%s)", worker.id))


def leave(conn: psycopg.Connection, worker: Worker) -> None:
    conn.execute("select striped.leave(%s)", [worker.id])


def upkeep(conn: psycopg.Connection, job_id: int) -> None:
    conn.execute("select striped.upkeep(%s)", [job_id])


def clean(conn: psycopg.Connection, job_id: int) -> bool:
    return bool(value(conn, "select striped.clean(%s)", job_id))


def note_times(conn: psycopg.Connection, job_id: int) -> None:
    conn.execute("select striped.note_times(%s, '{1}', 1, '{1}', 1)", [job_id])


def lead(conn: psycopg.Connection, job_id: int, name: str) -> int | None:
    term = value(conn, "select striped.lead(%s, %s)", job_id, name)
    return None if term is None else int(term)


def delegate(conn: psycopg.Connection, job_id: int, term: int) -> int:
    return int(value(conn, "select assigned from striped.delegate(%s, %s)", job_id, term))


def resign(conn: psycopg.Connection, job_id: int, term: int) -> None:
    conn.execute("select striped.resign(%s, %s)", [job_id, term])


def fire(conn: psycopg.Connection, job_id: int, due: dt.datetime, query: str | None) -> int | None:
    n = value(conn, "select striped.fire(%s, 'schedule', %s, %s)", job_id, due, query)
    return None if n is None else int(n)


def tend(conn: psycopg.Connection, job_id: int) -> None:
    conn.execute("select count(*) from striped.tend(%s)", [[job_id]])


def enqueue(conn: psycopg.Connection, job_type: str, resource: str, due_in: float | None, dedup_id: str | None) -> int:
    return int(
        value(
            conn,
            "select striped.enqueue(%s, %s, '{}', due_at => clock_timestamp() + make_interval(secs => %s),"
            " dedup_id => %s)",
            job_type,
            resource,
            due_in,
            dedup_id,
        )
    )


def enqueue_rows(conn: psycopg.Connection, job_type: str, resources: Sequence[str], dedup_ids: Sequence[str]) -> int:
    """Put in one unit of each resource, with these deduplication ids, if there are any."""
    query = "select striped.enqueue_rows('default', %s, %s, null, null, null, %s)"
    return int(value(conn, query, job_type, list(resources), list(dedup_ids) or None))


def revive(conn: psycopg.Connection, job_id: int, state: str) -> int:
    return int(value(conn, "select striped.revive(%s, %s, null, null, %s)", job_id, state, UNITS))


def purge(conn: psycopg.Connection, job_id: int, state: str) -> int:
    return int(value(conn, "select striped.purge(%s, %s, null, null, %s)", job_id, state, UNITS))


def cancel(conn: psycopg.Connection, job_id: int, state: str) -> tuple[int, int]:
    """Cancel all units in a state; returns how many are dead, and how many are marked."""
    query = "select ended, asked from striped.cancel(%s, %s, null, null, '', 0, 'ann', 'no need', %s)"
    row = conn.execute(query.encode(), [job_id, state, UNITS]).fetchone()
    assert row is not None
    return row[0], row[1]


def retry_now(conn: psycopg.Connection, job_id: int) -> int:
    """Have all that waits for another try go on; of a person's two calls, in one transaction."""
    units = value(conn, "select units from striped.retry_now(%s, null, null, '', 0, %s)", job_id, UNITS)
    query = "select resources from striped.retry_resources_now(%s, null, null, '', %s)"
    return int(units) + int(value(conn, query, job_id, UNITS))


def pause(conn: psycopg.Connection, job_id: int, resource: str) -> bool:
    return bool(value(conn, "select striped.pause_resource(%s, %s, 'ann', '')", job_id, resource))


def resume_paused(conn: psycopg.Connection, job_id: int, resource: str) -> bool:
    return bool(value(conn, "select striped.resume_resource(%s, %s)", job_id, resource))


def pause_job(conn: psycopg.Connection, job_id: int) -> bool:
    return bool(value(conn, "select striped.pause_job(%s, 'ann', '')", job_id))


def resume_job(conn: psycopg.Connection, job_id: int) -> bool:
    return bool(value(conn, "select striped.resume_job(%s)", job_id))


def clear(conn: psycopg.Connection, job_id: int) -> int:
    """Remove all there is; people repeat the call until it finds nothing."""
    return int(value(conn, "select striped.clear(%s, %s)", job_id, UNITS) or 0)


def is_empty(conn: psycopg.Connection, job_id: int) -> bool:
    return bool(value(conn, "select striped.is_empty(%s)", job_id))
