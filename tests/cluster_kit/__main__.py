"""The command behind scripts/cluster."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from typing import TYPE_CHECKING

import click
from tests.cluster_kit.bare import Bare
from tests.cluster_kit.home import CACHE, LOCK, LOGS, ClusterError, UnavailableError, say
from tests.cluster_kit.kind import Kind
from tests.cluster_kit.provider import LEVELS, Cluster, Level, choose
from tests.cluster_kit.traces import difference, traces

from stripedjob import filelock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster_kit.provider import Provider

LOCK_SECONDS_MAX = 3600
UNAVAILABLE = 69  # EX_UNAVAILABLE: this machine cannot have a cluster
PROVIDERS: list[Provider] = [Kind(), Bare()]
of_provider = click.option(
    "--provider",
    type=click.Choice([one.name for one in PROVIDERS]),
    envvar="STRIPEDJOB_CLUSTER_PROVIDER",
    help="Default: $STRIPEDJOB_CLUSTER_PROVIDER, else what can run.",
)
of_level = click.option("--level", type=click.Choice(LEVELS), help="Default: the highest possible.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """A Kubernetes cluster for the tests, on this machine, with Docker and kind or without.

    \b
    scripts/cluster up                         with a node, where that is possible
    scripts/cluster up --level control-plane   an API server, scheduler and controllers alone; needs no root
    scripts/cluster images                     build the images, and load them into a cluster that is up
    export KUBECONFIG=$(scripts/cluster kubeconfig)
    scripts/cluster down
    """


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """One command at a time changes the cluster."""
    CACHE.mkdir(parents=True, exist_ok=True)
    descriptor = filelock.take(LOCK, seconds=LOCK_SECONDS_MAX)
    if descriptor is None:
        raise ClusterError(f"another command has held {LOCK} for {LOCK_SECONDS_MAX} s")
    try:
        yield
    finally:
        os.close(descriptor)


def there() -> tuple[Cluster, Provider] | None:
    """Return the cluster that is up, with its provider."""
    cluster = Cluster.recorded()
    if cluster is None:
        return None
    provider = next(one for one in PROVIDERS if one.name == cluster.provider)
    return (cluster, provider) if provider.parts() else None


@main.command()
@of_provider
@of_level
def up(provider: str | None, level: Level | None) -> None:
    """Bring a cluster up, building what is missing first."""
    start = time.monotonic()
    with alone():
        found = there()
        if found and provider in {None, found[0].provider} and level in {None, found[0].level, LEVELS[0]}:
            say(f"a cluster of {found[0].provider} at level {found[0].level} is up already")
            return
        if found:
            found[1].down()
        taken, level = choose(PROVIDERS, provider, level)
        cluster = taken.up(level)
        cluster.record()
    say(f"{cluster.provider} at level {cluster.level} is up after {time.monotonic() - start:.0f} s")
    say(f"export KUBECONFIG={cluster.kubeconfig}")


@main.command()
def down() -> None:
    """End the cluster, whatever is left of it."""
    start = time.monotonic()
    with alone():
        recorded = Cluster.recorded()
        for provider in PROVIDERS:
            if recorded is None or provider.name == recorded.provider:
                provider.down()
    say(f"the cluster is down after {time.monotonic() - start:.1f} s")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def status(*, as_json: bool) -> None:
    """Say what is up; exit code 1 where nothing is."""
    found = there()
    if as_json:
        words = {"up": bool(found)}
        if found:
            cluster, provider = found
            words |= {"provider": cluster.provider, "level": cluster.level, "parts": provider.parts()}  # type: ignore[dict-item]
            words |= {"kubeconfig": str(cluster.kubeconfig), "kubectl": str(cluster.kubectl), "helm": str(cluster.helm)}  # type: ignore[dict-item]
        click.echo(json.dumps(words))
    elif found:
        cluster, provider = found
        click.echo(f"{cluster.provider} at level {cluster.level}, kubeconfig {cluster.kubeconfig}, logs {LOGS}")
        for part, how in provider.parts().items():
            click.echo(f"  {part:26} {how}")
    else:
        click.echo("no cluster is up")
    sys.exit(0 if found else 1)


@main.command()
def kubeconfig() -> None:
    """Print the path of the administrator's kubeconfig."""
    found = there()
    if not found:
        raise UnavailableError("no cluster is up: scripts/cluster up")
    click.echo(found[0].kubeconfig)


@main.command()
@of_provider
def images(provider: str | None) -> None:
    """Build the images, and load them where a cluster with a node is up. Prints their names."""
    with alone():
        found = there()
        taken = found[1] if found else choose(PROVIDERS, provider, "node")[0]
        for name in taken.images(load=found is not None and found[0].level == "node"):
            click.echo(name)


@main.command()
@of_provider
@of_level
@click.option("--times", type=click.IntRange(min=1), default=10, show_default=True)
def soak(provider: str | None, level: Level | None, times: int) -> None:
    """Bring a cluster up and down many times; fails where one round leaves anything on this machine."""
    with alone():
        if there():
            raise ClusterError("a cluster is up: scripts/cluster down")
        taken, level = choose(PROVIDERS, provider, level)
        taken.down()
        before = traces(level)
        for number in range(1, times + 1):
            start = time.monotonic()
            taken.up(level)
            up_seconds = time.monotonic() - start
            taken.down()
            down_seconds = time.monotonic() - start - up_seconds
            say(f"round {number} of {times}: up after {up_seconds:.1f} s, down after {down_seconds:.1f} s")
            if changed := difference(before, traces(level)):
                raise ClusterError(f"round {number} has changed this machine: {'; '.join(changed)}")


if __name__ == "__main__":
    try:
        main()
    except ClusterError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(UNAVAILABLE if isinstance(error, UnavailableError) else 1)
