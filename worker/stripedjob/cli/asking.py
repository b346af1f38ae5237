"""Asks before something is done that cannot be undone."""

import sys

import click

from stripedjob.cli.exits import Failure


def confirm(question: str, *, yes: bool) -> None:
    """Return where the answer is yes; raises Failure where it is no, UsageError where nobody is there to ask."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} Nobody is there to ask: say --yes.")
    if not click.confirm(question):
        raise Failure(1, "nothing was changed")
