"""The command line, `stripedjob`. Each command's module is imported only when it is called, so that --help is quick."""

import gc
import importlib
import io
import shutil
import sys
from typing import Any

import click

COMMANDS = {
    "run": "stripedjob.cli.run:run",
    "enqueue": "stripedjob.cli.units:enqueue",
    "create-work": "stripedjob.cli.units:create_work",
    "status": "stripedjob.cli.show:status",
    "explain": "stripedjob.cli.show:explain",
    "list": "stripedjob.cli.listing:list_units",
    "history": "stripedjob.cli.history:history",
    "cancel": "stripedjob.cli.acts:cancel",
    "pause": "stripedjob.cli.acts:pause",
    "resume": "stripedjob.cli.acts:resume",
    "ui": "stripedjob.cli.ui:ui",
    "retry": "stripedjob.cli.units_admin:retry",
    "release": "stripedjob.cli.units_admin:release",
    "purge": "stripedjob.cli.units_admin:purge",
    "doctor": "stripedjob.cli.doctor:doctor",
    "flush-locks": "stripedjob.cli.units_admin:flush_locks",
    "migrate": "stripedjob.cli.schema:migrate",
    "teardown": "stripedjob.cli.schema:teardown",
    "grant": "stripedjob.cli.rights:grant",
    "revoke": "stripedjob.cli.rights:revoke",
    "validate": "stripedjob.cli.schema:validate",
    "crd": "stripedjob.cli.schema:crd",
    "worker": "stripedjob.cli.worker:worker",
    "delegator": "stripedjob.cli.worker:delegator",
    "drain": "stripedjob.cli.worker:drain",
}

HELP_COLUMNS_MIN, HELP_COLUMNS_MAX = 40, 100
SENTENCE_MAX = 1_000  # characters of a command in the list of commands


class _Lazy(click.Group):
    """A group that knows its commands by name and loads them when they are needed."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        if not gc.isenabled():  # as __main__ begins
            gc.freeze()
            gc.enable()
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List them with whole sentences: click would cut each to a line."""
        commands = [(name, self.get_command(ctx, name)) for name in COMMANDS]
        with formatter.section("Commands"):
            formatter.write_dl([(name, one.get_short_help_str(SENTENCE_MAX)) for name, one in commands if one])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        import difflib

        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0], COMMANDS, 1)
            if near:
                raise click.UsageError(f"{error.format_message()} Did you mean {near[0]!r}?", ctx) from None
            raise


def _help_columns() -> int:
    """Return how wide a help text is: as the terminal, within bounds. Click by itself takes 50 columns at least."""
    return max(min(shutil.get_terminal_size().columns, HELP_COLUMNS_MAX), HELP_COLUMNS_MIN) - 1


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "terminal_width": _help_columns()})
@click.version_option(package_name="stripedjob")
def cli() -> None:
    """Stripe-locked work: many workers drain a pool in Postgres, and no two ever work on one resource at once.

    \b
    stripedjob enqueue job.yaml --from units.csv
    stripedjob run job.yaml --until-empty
    stripedjob status job.yaml

    Without --postgres and --redis, embedded engines keep the pool in .stripedjob beside FILE.
    """  # noqa: D301 - click's mark for text that is not to be wrapped


def main(args: list[str] | None = None) -> Any:
    """Run the command line; ends the process with one of the codes of exits.py."""
    from stripedjob.cli.exits import exits

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what the terminal's encoding lacks is no reason to fail
    with exits():
        sys.exit(cli(args, prog_name="stripedjob", standalone_mode=False))
