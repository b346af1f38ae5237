"""What can be looked at: each view is a value that says what it reads, and what it is called where that is not there.

Made by routes.py. Two viewers with equal views share what is read for them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from stripedjob.pool.client import page
from stripedjob.pool.client.viewer import ViewerPool

Read = Callable[[ViewerPool], Any]


@dataclass(frozen=True, slots=True)
class JobsView:
    """The jobs that come after this (namespace, job type)."""

    template: ClassVar[str] = "jobs.html"
    missing: ClassVar[str] = ""
    after: tuple[str, str] = ("", "")

    def title(self, _data: Any) -> str:
        """Name it, by what was read where that was."""
        return "Jobs"

    def read(self, pool: ViewerPool) -> Any:
        """Read it."""
        return page.jobs(pool, self.after)


@dataclass(frozen=True, slots=True)
class JobView:
    """One job."""

    template: ClassVar[str] = "job.html"
    missing: ClassVar[str] = "There is no such job in this pool. Perhaps its pool was torn down and made again since."
    job: int

    def title(self, data: Any) -> str:
        """Name it, by what was read where that was."""
        return f"Job {self.job}" if data is None else f"{data['status']['namespace']}/{data['status']['job_type']}"

    def read(self, pool: ViewerPool) -> Any:
        """Read it."""
        return page.job(pool, self.job)


@dataclass(frozen=True, slots=True)
class WorkerView:
    """One worker with its leases."""

    template: ClassVar[str] = "worker.html"
    missing: ClassVar[str] = "There is no such worker any more: it has ended, or its lease ran out."
    job: int
    worker: int

    def title(self, _data: Any) -> str:
        """Name it, by what was read where that was."""
        return f"Worker {self.worker}"

    def read(self, pool: ViewerPool) -> Any:
        """Read it."""
        return page.worker(pool, self.job, self.worker)


@dataclass(frozen=True, slots=True)
class ResourceView:
    """One resource: who holds it, what stands before it, its next units."""

    template: ClassVar[str] = "resource.html"
    missing: ClassVar[str] = JobView.missing
    job: int
    name: str
    payloads: bool

    def title(self, _data: Any) -> str:
        """Name it, by what was read where that was."""
        return f"Resource {self.name}"

    def read(self, pool: ViewerPool) -> Any:
        """Read it."""
        return page.resource(pool, self.job, self.name, payloads=self.payloads)


@dataclass(frozen=True, slots=True)
class UnitView:
    """One unit."""

    template: ClassVar[str] = "unit.html"
    missing: ClassVar[str] = "There is no such unit in this job: it is done and was removed, or never was."
    job: int
    unit: int
    payloads: bool

    def title(self, _data: Any) -> str:
        """Name it, by what was read where that was."""
        return f"Unit {self.unit}"

    def read(self, pool: ViewerPool) -> Any:
        """Read it."""
        return page.unit(pool, self.job, self.unit, payloads=self.payloads)


@dataclass(frozen=True, slots=True)
class HistoryView:
    """What happened to a resource, to a unit by its id, or to the job as a whole, before an event."""

    template: ClassVar[str] = "history.html"
    missing: ClassVar[str] = JobView.missing
    job: int
    of: str | int | None
    before: int

    def title(self, _data: Any) -> str:
        """Name it, by what was read where that was."""
        return f"What happened to {f'unit {self.of}' if isinstance(self.of, int) else self.of or 'the job'}"

    def read(self, pool: ViewerPool) -> Any:
        """Read it."""
        return page.history(pool, self.job, self.of, self.before)


@dataclass(frozen=True, slots=True)
class AsideView:
    """Units set aside, after this place: all of a state, or those of one reason."""

    template: ClassVar[str] = "aside.html"
    missing: ClassVar[str] = JobView.missing
    job: int
    state: page.State
    digest: str | None
    after: page.Place

    def title(self, _data: Any) -> str:
        """Name it, by what was read where that was."""
        return f"{self.state.capitalize()} units"

    def read(self, pool: ViewerPool) -> Any:
        """Read it."""
        return page.aside(pool, self.job, self.state, self.digest, self.after)


@dataclass(frozen=True, slots=True)
class FindView:
    """What is called so, or has this id, in one job or in all."""

    template: ClassVar[str] = "find.html"
    missing: ClassVar[str] = ""
    job: int | None
    text: str

    def title(self, _data: Any) -> str:
        """Name it, by what was read where that was."""
        return f"Found for {self.text}"

    def read(self, pool: ViewerPool) -> Any:
        """Read it."""
        return page.find(pool, self.job, self.text)


@dataclass(frozen=True, slots=True)
class DeedView:
    """How far an action is; nothing is read of the pool."""

    template: ClassVar[str] = "deed.html"
    missing: ClassVar[str] = "This action is not known any more: only the last ones are kept, until the page ends."
    job: int
    deed: str

    def title(self, _data: Any) -> str:
        """Name it, by what was read where that was."""
        return "Action"


PoolView = JobsView | JobView | WorkerView | ResourceView | UnitView | HistoryView | AsideView | FindView
View = PoolView | DeedView
