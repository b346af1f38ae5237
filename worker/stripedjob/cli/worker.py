"""The command that a pod runs: one worker, with its settings from the environment."""

import asyncio
import os

import click

from stripedjob.cli.exits import code_of


@click.command()
@click.option("--spec", envvar="STRIPEDJOB_SPEC", required=True, help="The StripedJob as JSON or YAML text.")
@click.option(
    "--postgres", metavar="URL", envvar="STRIPEDJOB_POSTGRES_URL", required=True, help="Postgres of the pool."
)
@click.option("--lock", metavar="URL", envvar="STRIPEDJOB_LOCK_URL", help="The lock backend.  [default: the pool]")
@click.option("--name", envvar="STRIPEDJOB_WORKER", help="How it registers.  [default: host:pid]")
@click.option("--port", type=int, envvar="STRIPEDJOB_PORT", help="Serve /livez, /readyz and /metrics here.")
@click.option("--parent", type=int, envvar="STRIPEDJOB_PARENT", hidden=True, help="End when this process has gone.")
@click.option("--path", envvar="STRIPEDJOB_PATH", default="", help="Where Python handlers are.  [default: here]")
def worker(
    spec: str, postgres: str, lock: str | None, name: str | None, port: int | None, parent: int | None, path: str
) -> None:
    """Work on one job until SIGTERM, then drain; settings from the environment, as in a pod.

    Logs are JSON lines on stderr. Each option has an environment variable: STRIPEDJOB_SPEC, STRIPEDJOB_POSTGRES_URL,
    STRIPEDJOB_LOCK_URL, STRIPEDJOB_WORKER, STRIPEDJOB_PORT, STRIPEDJOB_PATH.

    Example: STRIPEDJOB_SPEC="$(cat job.yaml)" stripedjob worker --postgres postgres://… --lock redis://…
    """
    from stripedjob.runtime.log import configure, logger
    from stripedjob.runtime.service import ServiceSettings, serve
    from stripedjob.spec.load import parse

    configure()
    try:
        job = parse(spec)
        settings = ServiceSettings(job, postgres, lock or postgres, path or os.getcwd(), name or "", port, parent)  # noqa: PTH109
        asyncio.run(serve(settings))
    except Exception as error:
        code = code_of(error)
        if code is None:
            raise
        logger.error(str(error), extra={"exit_code": code})
        raise SystemExit(code) from None
