"""What most commands begin with: the StripedJob file, and the engines that its pool and locks are in."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from stripedjob.spec.model import StripedJob

DATA_DIR = ".stripedjob"


@dataclass(frozen=True, slots=True)
class Site:
    """A job, and where it is. The lock URL is the pool's own where the backend is Postgres and no other was given."""

    job: "StripedJob"
    path: Path
    postgres_url: str
    lock_url: str


@dataclass(frozen=True, slots=True)
class Place:
    """The options that say where."""

    file: Path
    postgres: str | None
    redis: str | None
    data: Path | None

    def load(self) -> "StripedJob":
        """Read the file; raises SpecError."""
        from stripedjob.spec.load import load

        return load(self.file)

    @contextmanager
    def open(self, *, lock: bool = False) -> Iterator[Site]:
        """Find or start the engines, for as long as the context is open; those of the lock only where asked for."""
        job = self.load()
        with ExitStack() as stack:
            postgres_url = self.postgres or stack.enter_context(self._embedded("postgres"))
            lock_url = self.redis or ""
            if job.spec.lock.backend == "Postgres":
                lock_url = lock_url or postgres_url
            elif lock and not lock_url:
                lock_url = stack.enter_context(self._embedded("valkey"))
            yield Site(job, self.file, postgres_url, lock_url)

    def _embedded(self, name: Any) -> Any:
        from stripedjob.local.engines import embedded_engine

        return embedded_engine(name, self.data or self.file.absolute().parent / DATA_DIR)


@contextmanager
def migration_shown() -> Iterator[None]:
    """Show on stderr what a migration does meanwhile, and whom it waits for."""
    logger, handler = logging.getLogger("stripedjob.migrate"), _Shown()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _Shown(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        click.echo(record.getMessage(), err=True)


def takes_place(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command FILE, --postgres, --redis and --data, as one argument `place`."""

    @click.argument("file", type=click.Path(path_type=Path))
    @click.option("--postgres", metavar="URL", envvar="STRIPEDJOB_POSTGRES_URL", help="Postgres of the pool.")
    @click.option("--redis", metavar="URL", envvar="STRIPEDJOB_LOCK_URL", help="Redis or Valkey of the locks.")
    @click.option(
        "--data",
        metavar="DIR",
        type=click.Path(path_type=Path, file_okay=False),
        help=f"Where embedded engines keep their data.  [default: {DATA_DIR} beside FILE]",
    )
    def wrapped(file: Path, postgres: str | None, redis: str | None, data: Path | None, **options: Any) -> None:
        command(place=Place(file, postgres, redis, data), **options)

    wrapped.__name__, wrapped.__doc__ = command.__name__, command.__doc__
    wrapped.__click_params__ = [*getattr(command, "__click_params__", []), *wrapped.__click_params__]  # type: ignore[attr-defined]
    return wrapped
