"""`stripedjob ui`: the page, until Ctrl-C."""

import asyncio
import signal
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stripedjob.cli.asking import user
from stripedjob.cli.exits import INTERRUPTED, Failure
from stripedjob.cli.say import say
from stripedjob.cli.target import DATA, POSTGRES, REDIS, Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stripedjob.ui.app import Served
    from stripedjob.ui.security import Rights

PORT = 8095
SCHEMA = "striped"


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@POSTGRES
@REDIS
@DATA
@click.option("--port", type=click.IntRange(0, 65_535), default=PORT, show_default=True, help="0: a free one.")
@click.option("--allow-actions", is_flag=True, help="Retry, release, purge, cancel, pause and resume.")
@click.option("--show-payloads", is_flag=True, help="Show what is in units.")
@click.option("--allow-host", "hosts", multiple=True, metavar="NAME", help="Answer under this name, too.")
def ui(
    file: Path | None,
    postgres: str | None,
    redis: str | None,
    data: Path | None,
    port: int,
    *,
    allow_actions: bool,
    show_payloads: bool,
    hosts: tuple[str, ...],
) -> None:
    """Show all jobs of a pool in a browser, on 127.0.0.1: why a resource waits, who holds it, what is set aside.

    FILE says where the pool is, and where the locks of its job are; without it, --postgres does. It only shows, unless
    actions are allowed. Ctrl-C ends it.

    Example: stripedjob ui job.yaml
    """
    try:
        import stripedjob.ui.app  # noqa: F401 - says whether all of it is there
        from stripedjob.ui.security import Rights
    except ModuleNotFoundError as error:
        raise Failure(1, f"the page is not installed ({error.name}): pip install 'stripedjob[ui]'") from None

    rights = Rights(actions=allow_actions, payloads=show_payloads)
    with _served(file, postgres, redis, data, rights, hosts) as served:
        asyncio.run(_serve(served, port))


@contextmanager
def _served(
    file: Path | None,
    postgres: str | None,
    redis: str | None,
    data: Path | None,
    rights: "Rights",
    hosts: tuple[str, ...],
) -> "Iterator[Served]":
    """Find the pool, or start it, for as long as the context is open."""
    from stripedjob.local.engines import is_there
    from stripedjob.settings import lock_settings
    from stripedjob.ui.app import Served
    from stripedjob.ui.security import OWN_HOSTS

    names = OWN_HOSTS | {host.lower() for host in hosts}
    if file is None:
        if postgres is None:
            raise click.UsageError("Say where the pool is: FILE, or --postgres.")
        yield Served(postgres, SCHEMA, rights, names, who=user())
        return
    place = Place(file, postgres, redis, data)
    job = place.load()
    has_lock = redis is not None or (postgres is None and is_there("valkey", place.folder))
    with place.open(job, lock=has_lock) as site, site.pool() as pool:
        pool.statuses([])  # says at once where there is no pool, or one of another version
        lock = lock_settings(job, site.lock_url) if site.lock_url else None
        yield Served(site.postgres_url, job.spec.pool.sql_schema, rights, names, lock, who=user())


async def _serve(served: "Served", port: int) -> None:
    """Serve until SIGINT or SIGTERM; after Ctrl-C the exit code is 130."""
    from stripedjob.ui.serve import serving

    stopped: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def stop(number: int) -> None:
        if not stopped.done():
            stopped.set_result(number)

    for one in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(one, stop, one)
    async with serving(served, port) as url:
        say(f"the page is at {url}; Ctrl-C ends it", err=False)
        number = await stopped
    if number == signal.SIGINT:
        raise Failure(INTERRUPTED)
