"""Commands about who may do what in a pool: grant and revoke."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from stripedjob.cli.say import tell
from stripedjob.text import printable

if TYPE_CHECKING:
    from stripedjob.pool.client.owner import OwnerPool

NAMES = ("enqueuer", "worker", "delegator", "operator", "viewer", "person", "locker")
SEE = ("viewer", "person")
Job = tuple[str, str]


class _JobName(click.ParamType):  # type: ignore[type-arg]  # it is generic for mypy alone
    """A job, as NAMESPACE/TYPE."""

    name = "job"

    def convert(self, value: str | Job, param: click.Parameter | None, ctx: click.Context | None) -> Job:
        """Split it at the slash."""
        if isinstance(value, tuple):
            return value
        namespace, _, job_type = value.partition("/")
        if not namespace or not job_type or "/" in job_type:
            self.fail(f"{value!r} is not NAMESPACE/TYPE, such as default/listings", param, ctx)
        return namespace, job_type


def _takes_role(command: Callable[..., None]) -> Callable[..., Any]:
    """Return a command what grant and revoke have in common."""
    options = (
        click.argument("role", type=click.Choice(NAMES)),
        click.argument("to"),
        click.option("--postgres", metavar="URL", envvar="STRIPEDJOB_POSTGRES_URL", help="As the pool's owner."),
        click.option("--schema", default="striped", show_default=True, help="The pool's schema."),
        click.option("--job", type=_JobName(), metavar="NAMESPACE/TYPE", help="This job alone."),
        click.option("--payloads", is_flag=True, help="What is in the units, too: for a viewer or a person."),
        click.option("--sql", "shown", is_flag=True, help="Print the statements, and run none."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@_takes_role
def grant(
    role: str, to: str, postgres: str | None, schema: str, job: Job | None, *, payloads: bool, shown: bool
) -> None:
    """Let the database role TO be one of the pool's roles.

    It may then call the functions of that role, and needs no right on any table. With --job it may do so for that job
    alone, and for others that it is granted in the same way.

    Example: stripedjob grant worker listings_worker --job default/listings --postgres postgres://…
    """
    from stripedjob.pool.install import roles

    _check(role, payloads=payloads)
    if shown:
        _show(roles.grant(schema, role, to, job=job, payloads=payloads))
        return
    with _pool(postgres, schema) as pool:
        notes = pool.grant(role, to, job=job, payloads=payloads)
    for note in notes:
        tell(printable(note))
    click.echo(f"schema {schema}: {printable(to)} is {role}{_of(job)} now")


@click.command()
@_takes_role
def revoke(
    role: str, to: str, postgres: str | None, schema: str, job: Job | None, *, payloads: bool, shown: bool
) -> None:
    """Take one of the pool's roles from the database role TO.

    With --job it may no longer do so for that job, with --payloads no longer see payloads; the rest stays.

    Example: stripedjob revoke worker listings_worker --postgres postgres://…
    """
    from stripedjob.pool.install import roles

    _check(role, payloads=payloads)
    if shown:
        _show(roles.revoke(schema, role, to, job=job, payloads=payloads))
        return
    with _pool(postgres, schema) as pool:
        pool.revoke(role, to, job=job, payloads=payloads)
    what = "sees no payloads" if payloads else f"is not {role}"
    click.echo(f"schema {schema}: {printable(to)} {what}{_of(job)} any more")


def _check(role: str, *, payloads: bool) -> None:
    if payloads and role not in SEE:
        raise click.UsageError(f"--payloads is for {' and '.join(SEE)}; leave it out for {role}")


@contextmanager
def _pool(postgres: str | None, schema: str) -> "Iterator[OwnerPool]":
    from stripedjob.pool.client.owner import OwnerPool
    from stripedjob.pool.errors import PoolSchemaError

    if postgres is None:
        raise click.UsageError("say with --postgres where the pool is, or print the statements with --sql")
    with OwnerPool.open(postgres, schema) as pool:
        if not pool.exists():
            raise PoolSchemaError(f"there is no pool in schema {schema}: `stripedjob migrate FILE` makes it")
        yield pool


def _of(job: Job | None) -> str:
    return f" of {printable('/'.join(job))}" if job else ""


def _show(statements: list[str]) -> None:
    for statement in statements:
        click.echo(f"{statement};")
