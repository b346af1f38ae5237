"""What people do to a pool that is at work: cancel, retry, release, purge, pause and resume.

Each is one function of api/v1/person.sql, called for a bounded number of units at a time until it is through. Errors
are the pool's own (errors.py).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from stripedjob.pool.client.viewer import Place, ViewerPool

CHUNK_UNITS = 5_000  # of what a person asks for at once, so much in one transaction
State = Literal["held", "dead"]
WAITING_STATES = ("ready", "delayed", "held", "ready")  # again at the end: what became ready meanwhile


@dataclass(frozen=True, slots=True)
class Cancelled:
    """`ended`: so many units are dead. `asked`: so many are of leased resources; their workers end what they began."""

    ended: int
    asked: int


class PersonPool(ViewerPool):
    """The calls of people, who see the pool as well. `who` is for the history; None: the role of the database."""

    def revive(
        self,
        job_id: int,
        state: State,
        resource: str | None,
        ids: Sequence[int] | None,
        who: str | None = None,
    ) -> int:
        """Make held or dead units ready again: all, one resource's, or given ones; returns how many."""
        return self._in_chunks("revive", [job_id, state, resource, list(ids) if ids else None], who)

    def purge(
        self,
        job_id: int,
        state: State,
        resource: str | None,
        ids: Sequence[int] | None,
        who: str | None = None,
    ) -> int:
        """Remove held or dead units for good; returns how many."""
        return self._in_chunks("purge", [job_id, state, resource, list(ids) if ids else None], who)

    def cancel(
        self, job_id: int, resource: str | None, ids: Sequence[int], who: str, why: str, *, only: State | None = None
    ) -> Cancelled:
        """Cancel what waits, and ask for the end of what runs: of the job, of one resource, or given units.

        `only`: of given units, those in this state.
        """
        steps = list(self.cancelling(job_id, resource, ids, who, why, only=only))
        return Cancelled(sum(step.ended for step in steps), sum(step.asked for step in steps))

    def cancelling(
        self, job_id: int, resource: str | None, ids: Sequence[int], who: str, why: str, *, only: State | None = None
    ) -> Iterator[Cancelled]:
        """Cancel in steps of one call each; of given units, where `only` is given, those in this state."""
        parts: list[tuple[str | None, list[int] | None]]
        parts = [(only, part) for part in _parts(ids)] if ids else [(state, None) for state in WAITING_STATES]
        for state, part in parts:
            after: Place | None = Place()
            while after is not None:
                values = [job_id, state, resource, part, *after, who, why, CHUNK_UNITS]
                row = self._row("cancel", values)
                yield Cancelled(row[0], row[1])
                after = Place(row[2], row[3]) if row[3] is not None and not part else None

    def retry_now(
        self, job_id: int, resource: str | None, ids: Sequence[int], who: str | None = None
    ) -> tuple[int, int]:
        """Have waiting retries go on at once; returns how many units were delayed, and how many resources waited."""
        steps = list(self.hurrying(job_id, resource, ids, who))
        return sum(units for units, _ in steps), sum(resources for _, resources in steps)

    def hurrying(
        self, job_id: int, resource: str | None, ids: Sequence[int], who: str | None = None
    ) -> Iterator[tuple[int, int]]:
        """Have waiting retries go on in steps of one call each."""
        for part in _parts(ids) if ids else [None]:
            after: Place | None = Place()
            while after is not None:
                found = self._row("retry_now", [job_id, resource, part, *after, CHUNK_UNITS, who])
                yield found[0], 0
                after = Place(found[1], found[2]) if found[2] is not None and not part else None
            name: str | None = ""
            while name is not None:
                found = self._row("retry_resources_now", [job_id, resource, part, name, CHUNK_UNITS, who])
                yield 0, found[0]
                name = None if part or resource is not None else found[1]

    def pause(self, job_id: int, resource: str | None, who: str, why: str) -> bool:
        """Pause a job, or one resource of it; False: it was paused already, and stays so for what was said then."""
        if resource is None:
            return bool(self._row("pause_job", [job_id, who, why])[0])
        return bool(self._row("pause_resource", [job_id, resource, who, why])[0])

    def resume(self, job_id: int, resource: str | None, who: str | None = None) -> bool:
        """End the pause of a job, or of one resource of it; False: it was not paused."""
        if resource is None:
            return bool(self._row("resume_job", [job_id, who])[0])
        return bool(self._row("resume_resource", [job_id, resource, who])[0])

    def _in_chunks(self, routine: str, values: Sequence[Any], who: str | None) -> int:
        """Repeat a call that works on so many units at most, until it finds none."""
        units = 0
        while changed := self._row(routine, [*values, CHUNK_UNITS, who])[0]:
            units += changed
        return units


def _parts(ids: Sequence[int]) -> Iterator[list[int]]:
    for first in range(0, len(ids), CHUNK_UNITS):
        yield list(ids[first : first + CHUNK_UNITS])
