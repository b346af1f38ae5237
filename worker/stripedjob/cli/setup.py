"""Commands around a pool's life: validate, crd, migrate, teardown."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from stripedjob.cli.exits import Failure
from stripedjob.cli.site import Place, migration_shown, takes_place
from stripedjob.cli.text import printable

if TYPE_CHECKING:
    from stripedjob.pool.teardown import Torn


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
def validate(files: tuple[Path, ...]) -> None:
    """Check StripedJob files: every mistake with its line, its field, its cause and the way out.

    Example: stripedjob validate job.yaml
    """
    from stripedjob.spec.load import SpecError, load

    failed = False
    for file in files:
        try:
            job = load(file)
        except SpecError as error:
            failed = True
            click.echo(str(error), err=True)
        else:
            click.echo(f"{file}: StripedJob {job.metadata.name} is valid")
    if failed:
        raise Failure(78)


@click.command()
def crd() -> None:
    """Print the CustomResourceDefinition.

    Example: stripedjob crd | kubectl apply --server-side -f -
    """
    from stripedjob.spec.crd import crd_yaml

    click.echo(crd_yaml(), nl=False)


@click.command()
@takes_place
def migrate(place: Place) -> None:
    """Bring the pool's schema to this version, and make or update the job in it.

    Any number of processes may do so at once. Example: stripedjob migrate job.yaml --postgres postgres://…
    """
    from stripedjob.pool.admin import PoolAdmin
    from stripedjob.settings import job_settings

    with place.open() as site, PoolAdmin.open(site.postgres_url, site.job.spec.pool.sql_schema) as pool:
        with migration_shown():
            versions = pool.migrate()
        pool.apply(job_settings(site.job))
        done = f"migrated to version {versions[-1]}" if versions else "up to date"
        click.echo(f"schema {pool.schema}: {done}; job {site.job.metadata.namespace}/{site.job.job_type} applied")


@click.command()
@takes_place
@click.option("--yes", is_flag=True, help="Do not ask.")
def teardown(place: Place, *, yes: bool) -> None:
    """Drop the pool: all jobs in its schema, all their units, for good. What others keep in the schema stays.

    Example: stripedjob teardown job.yaml --yes
    """
    from stripedjob.pool.admin import PoolAdmin

    with place.open() as site, PoolAdmin.open(site.postgres_url, site.job.spec.pool.sql_schema) as pool:
        if not yes:
            click.confirm(f"Drop all jobs and units in schema {pool.schema}?", abort=True)
        click.echo(f"schema {pool.schema}: {_what_became(pool.teardown())}")


def _what_became(torn: "Torn | None") -> str:
    if torn is None:
        return "was not there"
    if torn.dropped:
        return "dropped"
    left = f", which is not empty: {printable(', '.join(torn.left))}" if torn.left else ""
    return f"the pool was dropped; the schema is kept{left}"
