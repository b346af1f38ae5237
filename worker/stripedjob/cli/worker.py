"""The commands that pods run: a worker or the delegator, with their settings from the environment, and their end."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stripedjob.cli.exits import Failure, code_of, words_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from stripedjob.runtime.service import ServiceSettings
    from stripedjob.runtime.settings import Plan

    Serve = Callable[[ServiceSettings], Coroutine[Any, Any, None]]

SPEC = click.option("--spec", envvar="STRIPEDJOB_SPEC", help="The StripedJob as JSON or YAML text.  [required]")
PLAN = click.option("--plan", envvar="STRIPEDJOB_PLAN", hidden=True, help="What `stripedjob run` has made of it.")
POSTGRES = click.option(
    "--postgres", metavar="URL", envvar="STRIPEDJOB_POSTGRES_URL", required=True, help="Postgres of the pool."
)
NAME = click.option("--name", envvar="STRIPEDJOB_WORKER", default="", help="How it registers.  [default: host:pid]")
PORT = click.option("--port", type=int, envvar="STRIPEDJOB_PORT", help="Serve /livez, /readyz and /metrics here.")
PID_FILE = click.option(
    "--pid-file", type=click.Path(path_type=Path), envvar="STRIPEDJOB_PID_FILE", help="Held while it works: see drain."
)
PARENT = click.option(
    "--parent", type=int, envvar="STRIPEDJOB_PARENT", hidden=True, help="End when this process has gone."
)


@click.command()
@SPEC
@PLAN
@POSTGRES
@click.option("--lock", metavar="URL", envvar="STRIPEDJOB_LOCK_URL", help="The lock backend.  [default: the pool]")
@NAME
@PORT
@PID_FILE
@PARENT
@click.option("--path", envvar="STRIPEDJOB_PATH", default="", help="Where Python handlers are.  [default: here]")
def worker(
    spec: str | None,
    plan: str | None,
    postgres: str,
    lock: str | None,
    name: str,
    port: int | None,
    pid_file: Path | None,
    parent: int | None,
    path: str,
) -> None:
    """Work on one job until SIGTERM, then drain; settings from the environment, as in a pod.

    Logs are JSON lines on stderr. Each option has an environment variable: STRIPEDJOB_SPEC, STRIPEDJOB_POSTGRES_URL,
    STRIPEDJOB_LOCK_URL, STRIPEDJOB_WORKER, STRIPEDJOB_PORT, STRIPEDJOB_PID_FILE, STRIPEDJOB_PATH.

    Example: STRIPEDJOB_SPEC="$(cat job.yaml)" stripedjob worker --postgres postgres://… --lock redis://…
    """
    from stripedjob.runtime.service import ServiceSettings, serve

    def settings() -> ServiceSettings:
        known = _plan(spec, plan, postgres, lock or postgres, path or str(Path.cwd()))
        return ServiceSettings(known, postgres, name, port, parent, pid_file)

    _run(serve, settings)


@click.command()
@SPEC
@PLAN
@POSTGRES
@NAME
@PORT
@PID_FILE
@PARENT
def delegator(
    spec: str | None,
    plan: str | None,
    postgres: str,
    name: str,
    port: int | None,
    pid_file: Path | None,
    parent: int | None,
) -> None:
    """Assign one job's resources to its workers until SIGTERM: for the strategies Delegator and Throttled.

    Of several that are started, one is active. Settings from the environment, as of `stripedjob worker`.

    Example: STRIPEDJOB_SPEC="$(cat job.yaml)" stripedjob delegator --postgres postgres://…
    """
    from stripedjob.runtime.service import ServiceSettings, serve_delegator

    def settings() -> ServiceSettings:
        return ServiceSettings(_plan(spec, plan, postgres, "", ""), postgres, name, port, parent, pid_file)

    _run(serve_delegator, settings)


@click.command()
@click.option("--pid-file", type=click.Path(path_type=Path), envvar="STRIPEDJOB_PID_FILE", required=True)
def drain(pid_file: Path) -> None:
    """Have the worker with this --pid-file drain, and wait until it has; a pod's preStop hook.

    Where no worker has it there is nothing to do, and that is no error.

    Example: stripedjob drain --pid-file /tmp/stripedjob.pid
    """
    from stripedjob.runtime import pidfile

    pidfile.drain(pid_file)


def _plan(spec: str | None, plan: str | None, postgres: str, lock: str, path: str) -> "Plan":
    """Take the plan of who started this process, or make one of the StripedJob."""
    from stripedjob.runtime.settings import Plan

    if plan:
        return Plan.unpacked(plan)
    if not spec:
        raise Failure(2, "there is no StripedJob: give --spec, or STRIPEDJOB_SPEC")
    from stripedjob.spec.load import parse

    return Plan.of(parse(spec), postgres, lock, path)


def _run(serve: "Serve", settings: "Callable[[], ServiceSettings]") -> None:
    """Serve to the end; an error that a person can fix is one line of the log, and an exit code."""
    from stripedjob.observe.log import configure, logger

    configure()
    try:
        asyncio.run(serve(settings()))
    except Exception as error:
        code = code_of(error)
        if code is None:
            raise
        logger.error(words_of(error), extra={"exit_code": code})
        raise SystemExit(code) from None
