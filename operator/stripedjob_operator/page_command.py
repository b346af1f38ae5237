"""The command `stripedjob-page`: what the page's pod runs."""

import asyncio
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

import click
from prometheus_client import CollectorRegistry

from stripedjob import __version__

if TYPE_CHECKING:
    from stripedjob.ui.app import Served

PORT = 8095


@click.command()
@click.version_option(__version__)
@click.option(
    "--postgres", metavar="URL", envvar="STRIPEDJOB_POSTGRES_URL", required=True, help="Postgres of the pool."
)
@click.option("--schema", envvar="STRIPEDJOB_SCHEMA", default="striped", show_default=True, help="The pool's.")
@click.option("--host", default="0.0.0.0", show_default=True, help="Where it listens.")  # noqa: S104 - in a pod
@click.option("--port", type=int, envvar="STRIPEDJOB_PORT", default=PORT, show_default=True)
@click.option("--allow-actions", is_flag=True, help="Who may update StripedJobs may act on jobs and units.")
@click.option("--show-payloads", is_flag=True, help="Who may get StripedJobs sees what is in units.")
@click.option("--trust-proxy", is_flag=True, help="X-Forwarded-User and -Groups say who somebody is.")
@click.option("--allow-host", "hosts", multiple=True, metavar="NAME", help="Answer under this name, too.")
def main(
    postgres: str,
    schema: str,
    host: str,
    port: int,
    *,
    allow_actions: bool,
    show_payloads: bool,
    trust_proxy: bool,
    hosts: tuple[str, ...],
) -> None:
    """Show the jobs of a pool in a browser until SIGTERM, to each what the API server lets them see.

    Example: stripedjob-page --postgres postgres://… --allow-host jobs.example.com
    """
    from stripedjob.observe.log import configure  # noqa: PLC0415 - --help is quick
    from stripedjob.ui.app import Served  # noqa: PLC0415
    from stripedjob.ui.security import OWN_HOSTS, Rights  # noqa: PLC0415

    configure()
    rights = Rights(actions=allow_actions, payloads=show_payloads)
    served = Served(postgres, schema, rights, OWN_HOSTS | {name.lower() for name in hosts})
    asyncio.run(_serve(served, host, port, trusts_proxy=trust_proxy))


async def _serve(served: "Served", host: str, port: int, *, trusts_proxy: bool) -> None:
    from stripedjob.observe.log import logger  # noqa: PLC0415
    from stripedjob.ui.serve import serving  # noqa: PLC0415
    from stripedjob_operator.cluster import Cluster  # noqa: PLC0415
    from stripedjob_operator.page import ApiAccess  # noqa: PLC0415

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Cluster.connect(CollectorRegistry()) as cluster:
        access = ApiAccess(cluster, served.rights, trusts_proxy)
        async with serving(replace(served, access=access), port, host) as url:
            logger.info("the page is served", extra={"url": url})
            await stop.wait()


if __name__ == "__main__":
    main()
