"""The command `stripedjob-operator`: what the operator's pod runs."""

import asyncio
import os
import re
import socket
from pathlib import Path

import click

from stripedjob import __version__

POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
WORKER_IMAGE = f"ghcr.io/stripedjob/worker:{__version__}"


def _classes(_: click.Context, __: click.Parameter, text: str) -> tuple[tuple[int, str], ...]:
    """Read '50=high,0=normal'."""
    found = []
    for part in filter(None, text.split(",")):
        match = re.fullmatch(r"(-?\d+)=([a-z0-9.-]+)", part.strip())
        if match is None:
            raise click.BadParameter(f"{part!r}: give importance=PriorityClass, such as 50=high,0=normal")
        found.append((int(match[1]), match[2]))
    return tuple(sorted(found, reverse=True))


@click.command()
@click.version_option(__version__)
@click.option(
    "--namespaces",
    envvar="STRIPEDJOB_NAMESPACES",
    default="",
    help="Look after these, comma-separated.  [default: all]",
)
@click.option("--worker-image", envvar="STRIPEDJOB_WORKER_IMAGE", default=WORKER_IMAGE, show_default=True)
@click.option("--port", type=int, envvar="STRIPEDJOB_PORT", default=8080, show_default=True, help="/livez, /metrics.")
@click.option("--lease", envvar="STRIPEDJOB_LEASE", default="stripedjob-operator", show_default=True)
@click.option("--lease-namespace", envvar="STRIPEDJOB_LEASE_NAMESPACE", default="", help="[default: the pod's own]")
@click.option("--identity", envvar="STRIPEDJOB_IDENTITY", default="", help="In the Lease.  [default: host and process]")
@click.option(
    "--priority-classes",
    envvar="STRIPEDJOB_PRIORITY_CLASSES",
    default="",
    callback=_classes,
    help="From which importance on workers have which PriorityClass, such as 50=high,0=normal.",
)
def main(
    namespaces: str,
    worker_image: str,
    port: int,
    lease: str,
    lease_namespace: str,
    identity: str,
    priority_classes: tuple[tuple[int, str], ...],
) -> None:
    """Look after StripedJobs until SIGTERM. Logs are JSON lines on stderr.

    It logs in with the pod's ServiceAccount, else with the kubeconfig. Of several with one --lease, one works.

    Example: stripedjob-operator --lease-namespace default
    """
    from stripedjob.observe.log import configure, logger  # noqa: PLC0415 - --help is quick
    from stripedjob_operator.operate import run  # noqa: PLC0415
    from stripedjob_operator.resolver import Loop  # noqa: PLC0415
    from stripedjob_operator.settings import OperatorSettings  # noqa: PLC0415

    configure()
    if not lease_namespace:
        lease_namespace = POD_NAMESPACE.read_text().strip() if POD_NAMESPACE.exists() else "default"
    settings = OperatorSettings(
        namespaces=tuple(name.strip() for name in namespaces.split(",") if name.strip()),
        worker_image=worker_image,
        identity=identity or f"{socket.gethostname()}-{os.getpid()}",
        lease_namespace=lease_namespace,
        lease_name=lease,
        port=port,
        priority_classes=priority_classes,
    )
    try:
        with asyncio.Runner(loop_factory=Loop) as runner:
            led = runner.run(run(settings))
    except Exception:  # whatever it is, it goes into the log as one line
        logger.exception("the operator ends")
        raise SystemExit(1) from None
    raise SystemExit(0 if led else 1)


if __name__ == "__main__":
    main()
