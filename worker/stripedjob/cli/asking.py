"""What commands that change something begin with: a question before what cannot be undone, and who does it, and why."""

import getpass
import sys
from collections.abc import Callable

import click

from stripedjob.cli.exits import Failure

WORDS_MAX = 1_000  # characters of who and why


def confirm(question: str, *, yes: bool) -> None:
    """Return where the answer is yes; raises Failure where it is no, UsageError where nobody is there to ask."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} Nobody is there to ask: say --yes.")
    if not click.confirm(question):
        raise Failure(1, "nothing was changed")


def says_who(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command the option that says who does it."""
    return click.option("--who", callback=_words, metavar="NAME", help="Kept, and shown.  [default: you]")(command)


def says_why(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command the option that says why."""
    return click.option("--why", default="", callback=_words, metavar="TEXT", help="Kept, and shown.")(command)


def _words(_ctx: click.Context, _param: click.Parameter, given: str | None) -> str:
    """Check who or why as the database will take it."""
    text = user() if given is None else given
    if "\0" in text or len(text) > WORDS_MAX:
        raise click.BadParameter(f"a text of at most {WORDS_MAX} characters, without NUL")
    return text


def user() -> str:
    """Name who runs this."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user without a name, as in many containers
        return "somebody"
