"""Commands around a pool's life: validate, crd, migrate, teardown."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from stripedjob.cli.asking import confirm
from stripedjob.cli.exits import Failure
from stripedjob.cli.say import tell
from stripedjob.cli.target import Place, migration_shown, target_options
from stripedjob.text import printable

if TYPE_CHECKING:
    from stripedjob.pool.install.teardown import Torn


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
def validate(files: tuple[Path, ...]) -> None:
    """Check StripedJob files: every mistake with its line, its field, its cause and the way out.

    A handler that is on this machine is loaded, too, as a worker would.

    Example: stripedjob validate job.yaml
    """
    from stripedjob.runtime.executor.supervisor import HandlerError
    from stripedjob.spec.load import SpecError

    failed = False
    for file in files:
        try:
            tell(_valid(file), err=False)
        except (SpecError, HandlerError) as error:
            failed = True
            words = str(error) if isinstance(error, SpecError) else f"{file}: {error}"
            tell(words)
    if failed:
        raise Failure(78)


def _valid(file: Path) -> str:
    """Say that a file is valid; raises SpecError, HandlerError."""
    from stripedjob.cli.prepare import begin_trial
    from stripedjob.runtime.executor.supervisor import HandlerError
    from stripedjob.spec.load import load

    job = load(file)
    words = f"{file}: StripedJob {job.metadata.name} is valid"
    if job.spec.handler.kind == "http":
        return words
    try:
        trial = begin_trial(Place(file, None, None, None), job)
    except HandlerError:
        return f"{words}; its command is not on this machine"
    if trial is not None and (absent := trial.verdict()):
        return f"{words}; its handler was not looked at: there is no module {absent} here"
    return f"{words}, and its handler is found"


@click.command()
def crd() -> None:
    """Print the CustomResourceDefinition.

    Example: stripedjob crd | kubectl apply --server-side -f -
    """
    from stripedjob.spec.crd import crd_yaml

    click.echo(crd_yaml(), nl=False)


@click.command()
@target_options
def migrate(place: Place) -> None:
    """Bring the pool's schema to this version, and make or update the job in it.

    Any number of processes may do so at once. Example: stripedjob migrate job.yaml --postgres postgres://…
    """
    from stripedjob.settings import job_settings

    with place.open(create=True) as site, site.pool() as pool:
        with migration_shown():
            versions = pool.migrate()
        pool.apply(job_settings(site.job))
        done = f"migrated to version {versions[-1]}" if versions else "up to date"
        click.echo(f"schema {pool.schema}: {done}; job {site.job.metadata.namespace}/{site.job.job_type} applied")


@click.command()
@target_options
@click.option("--yes", is_flag=True, help="Do not ask.")
def teardown(place: Place, *, yes: bool) -> None:
    """Drop the pool: all jobs in its schema, all their units, for good. What others keep in the schema stays.

    Example: stripedjob teardown job.yaml --yes
    """
    job = place.load()
    confirm(f"Drop all jobs and units in schema {job.spec.pool.sql_schema}?", yes=yes)
    with place.open(job) as site, site.pool() as pool:
        click.echo(f"schema {pool.schema}: {_what_became(pool.teardown())}")


def _what_became(torn: "Torn | None") -> str:
    if torn is None:
        return "was not there"
    if torn.dropped:
        return "dropped"
    left = f", which is not empty: {printable(', '.join(torn.left))}" if torn.left else ""
    return f"the pool was dropped; the schema is kept{left}"
