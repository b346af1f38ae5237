"""What the page of `stripedjob ui` asks of a pool: each function is one call of api/v1/page.sql, of bounded cost.

Called by stripedjob.ui through a BoundedPool. Gives what the routine answers, JSON with times as texts, or None where
there is no such job, worker or unit. Errors are the pool's own (errors.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from psycopg import sql

from stripedjob.pool.client.viewer import ViewerPool
from stripedjob.pool.connection import foreign_errors

State = Literal["held", "dead"]
Place = tuple[str, int]  # a unit's in the order of those set aside: its resource and id
FIRST: Place = ("", 0)
JOBS_MAX = 20  # on a page; the numbers of one may cost some milliseconds
UNITS_MAX = 50
CHOSEN_MAX = 2_000  # units that an action looks at, and changes, in one call
LIST_CHARACTERS_MAX = 500  # of a payload in a list
PAYLOAD_CHARACTERS_MAX = 100_000
ID_MAX = 2**63 - 1
STATES = ("ready", "delayed", "held", "dead")


@dataclass(frozen=True, slots=True)
class Chosen:
    """Units set aside that are meant: all of a state, or those of one reason (its digest), one resource, one unit."""

    state: State
    digest: str | None = None
    resource: str | None = None
    unit: int | None = None


def jobs(pool: ViewerPool, after: tuple[str, str]) -> Any:
    """Return the numbers of the jobs that come after this (namespace, job type)."""
    return _ask(pool, "page_jobs", [*after, JOBS_MAX])


def job(pool: ViewerPool, job_id: int) -> Any:
    """Return one job with its workers, what waits, and why units are set aside."""
    return _ask(pool, "page_job", [job_id])


def worker(pool: ViewerPool, job_id: int, worker_id: int) -> Any:
    """Return one worker with its leases."""
    return _ask(pool, "page_worker", [job_id, worker_id])


def resource(pool: ViewerPool, job_id: int, name: str, *, payloads: bool) -> Any:
    """Return what explain() says of a resource, and its first units."""
    found = _ask(pool, "page_resource", [job_id, name])
    if found is not None and payloads:
        units = [unit for state in STATES for unit in found[state]]
        seen = _payloads(pool, job_id, [unit["id"] for unit in units], LIST_CHARACTERS_MAX)
        for unit in units:
            unit["payload"] = seen.get(unit["id"])
    return found


def unit(pool: ViewerPool, job_id: int, unit_id: int, *, payloads: bool) -> Any:
    """Return one unit; its payload is None where it is not asked for."""
    found = _ask(pool, "page_unit", [job_id, unit_id])
    if found is not None:
        seen = _payloads(pool, job_id, [unit_id], PAYLOAD_CHARACTERS_MAX) if payloads else {}
        found["payload"] = seen.get(unit_id)
    return found


def history(pool: ViewerPool, job_id: int, of: str | int | None, before: int) -> Any:
    """Return a page of what happened to a resource, to a unit by its id, or to the job as a whole."""
    return pool.history(job_id, of, before, events=UNITS_MAX)


def aside(pool: ViewerPool, job_id: int, state: State, digest: str | None, after: Place) -> Any:
    """Return a page of the units that are set aside, and why most of them are."""
    return _ask(pool, "page_aside", [job_id, state, digest, *after, UNITS_MAX])


def find(pool: ViewerPool, job_id: int | None, text: str) -> Any:
    """Find the jobs that have a resource of this name, and the unit of this id."""
    number = int(text) if text.isascii() and text.isdigit() and int(text) <= ID_MAX else None
    return _ask(pool, "page_find", [job_id, text, number])


def name(pool: ViewerPool, job_id: int) -> Any:
    """Return the job's namespace and job type."""
    return _ask(pool, "page_name", [job_id])


def choose(pool: ViewerPool, job_id: int, chosen: Chosen, after: Place) -> tuple[list[int], Place | None]:
    """Return the next ids of the units that are meant, and where to go on, None at the end.

    By place, so that each is given once, whatever becomes of it meanwhile.
    """
    if chosen.unit is not None:
        found = unit(pool, job_id, chosen.unit, payloads=False)
        return ([chosen.unit] if found is not None and found["state"] == chosen.state else []), None
    values = [job_id, chosen.state, chosen.digest, chosen.resource, *after, CHOSEN_MAX]
    found = _ask(pool, "page_choose", values)
    return found["ids"], found["next"] and tuple(found["next"])


def _payloads(pool: ViewerPool, job_id: int, ids: Sequence[int], characters: int) -> dict[int, str]:
    """Return the beginnings of these units' payloads; a role of its own may see them."""
    query = sql.SQL("select id, left(payload, %s) from {}(%s, %s)").format(sql.Identifier(pool.schema, "payloads"))
    with foreign_errors():
        return dict(pool.conn.execute(query, [characters, job_id, list(ids)]).fetchall())


def _ask(pool: ViewerPool, routine: str, values: Sequence[Any]) -> Any:
    places = sql.SQL(", ").join(sql.Placeholder() * len(values))
    query = sql.SQL("select {}({})").format(sql.Identifier(pool.schema, routine), places)
    with foreign_errors():
        row = pool.conn.execute(query, values).fetchone()
    return row[0] if row else None
