"""What most commands begin with: the StripedJob file, and the engines that its pool and locks are in."""

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from stripedjob.cli.exits import Failure
from stripedjob.cli.say import tell

if TYPE_CHECKING:
    from stripedjob.pool.client.owner import OwnerPool
    from stripedjob.spec.model import StripedJob

DATA_DIR = ".stripedjob"
SILENT_SECONDS = 0.5  # an engine that takes longer is named
ENGINE_NAMES = {"postgres": "Postgres", "valkey": "Valkey"}
ABSENT = {
    "postgres": "there is no pool in {folder}: `stripedjob enqueue {file}` or `stripedjob run {file}` makes one",
    "valkey": "there are no locks in {folder}: name the server that has them with --redis",
}
POSTGRES = click.option("--postgres", metavar="URL", envvar="STRIPEDJOB_POSTGRES_URL", help="Postgres of the pool.")
REDIS = click.option("--redis", metavar="URL", envvar="STRIPEDJOB_LOCK_URL", help="Redis or Valkey of the locks.")
DATA = click.option(
    "--data",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help=f"Where embedded engines keep their data.  [default: {DATA_DIR} beside FILE]",
)


@dataclass(frozen=True, slots=True)
class Site:
    """A job, and where it is. The lock URL is the pool's own where the backend is Postgres and no other was given."""

    job: "StripedJob"
    path: Path
    postgres_url: str
    lock_url: str

    @contextmanager
    def pool(self) -> "Iterator[OwnerPool]":
        """Connect to the pool. Raises PoolError; of a schema that does not fit it says which of the two it is.

        All its calls are there; which of them may be made, the rights of the role in the URL say.
        """
        from stripedjob.pool.client.owner import OwnerPool
        from stripedjob.pool.errors import PoolSchemaError

        schema = self.job.spec.pool.sql_schema
        with OwnerPool.open(self.postgres_url, schema) as pool:
            try:
                yield pool
            except PoolSchemaError as error:
                if error.sqlstate is None:  # it says more than we know
                    raise
                way = f"`stripedjob migrate {self.path}`"
                raise PoolSchemaError(
                    f"the pool in schema {schema} is not of this version of stripedjob: {way} brings it to this one"
                    if pool.exists()
                    else f"there is no pool in schema {schema} of this database: {way} makes it"
                ) from error


@dataclass(frozen=True, slots=True)
class Place:
    """The options that say where."""

    file: Path
    postgres: str | None
    redis: str | None
    data: Path | None

    def load(self) -> "StripedJob":
        """Read the file; raises SpecError. `env:NAME` is the text of a variable: a pod's StripedJob is in one."""
        from stripedjob.spec.load import load, parse

        kind, _, name = str(self.file).partition(":")
        if kind == "env" and name in os.environ:
            return parse(os.environ[name], name)
        return load(self.file)

    @property
    def folder(self) -> Path:
        """Where embedded engines keep their data."""
        return self.data or self.file.absolute().parent / DATA_DIR

    @contextmanager
    def open(self, job: "StripedJob | None" = None, *, lock: bool = False, create: bool = False) -> Iterator[Site]:
        """Find or start the engines, for as long as the context is open; those of the lock only where asked for.

        `job`: the file's, where it was read already. `create`: an embedded database that is not there is made.
        """
        job = job or self.load()
        with ExitStack() as stack:
            postgres_url = self.postgres or stack.enter_context(self._embedded("postgres", create=create))
            lock_url = self.redis or ""
            if job.spec.lock.backend == "Postgres":
                lock_url = lock_url or postgres_url
            elif lock and not lock_url:
                if create and self.postgres:
                    tell(
                        f"no --redis is given: the locks are in an embedded Valkey in {self.folder},"
                        " which other machines do not see"
                    )
                lock_url = stack.enter_context(self._embedded("valkey", create=create))
            yield Site(job, self.file, postgres_url, lock_url)

    @contextmanager
    def _embedded(self, name: Literal["postgres", "valkey"], *, create: bool) -> Iterator[str]:
        from stripedjob.local.engines import LINGER_SECONDS, embedded_engine, is_there

        is_new = not is_there(name, self.folder)
        if is_new and not create:
            raise Failure(1, ABSENT[name].format(folder=self.folder, file=self.file))
        makes = is_new and name == "postgres"
        words = f"making a new database in {self.folder}…" if makes else f"starting {ENGINE_NAMES[name]}…"
        with ExitStack() as stack:
            with said_after(SILENT_SECONDS, words):
                engine = embedded_engine(name, self.folder, linger_seconds=LINGER_SECONDS)
                url = stack.enter_context(engine)
            yield url


@contextmanager
def said_after(seconds: float, words: str) -> Iterator[None]:
    """Say on stderr what goes on, where it takes longer than this."""
    timer = threading.Timer(seconds, tell, [words])
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


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
        tell(record.getMessage())


def target_options(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command FILE, --postgres, --redis and --data, as one argument `place`."""

    @click.argument("file", type=click.Path(path_type=Path))
    @POSTGRES
    @REDIS
    @DATA
    def wrapped(file: Path, postgres: str | None, redis: str | None, data: Path | None, **options: Any) -> None:
        command(place=Place(file, postgres, redis, data), **options)

    wrapped.__name__, wrapped.__doc__ = command.__name__, command.__doc__
    wrapped.__click_params__ = [*getattr(command, "__click_params__", []), *wrapped.__click_params__]  # type: ignore[attr-defined]
    return wrapped
