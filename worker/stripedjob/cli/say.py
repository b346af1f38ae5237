"""What a command says beside its result: a line of it may be lost, and the command goes on."""

import errno
import shutil
import sys

import click

from stripedjob.text import folded

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def say(words: str, *, err: bool = True) -> None:
    """Write a line, to stderr unless told otherwise; where the volume behind the stream is full, it is lost."""
    try:
        click.echo(words, err=err)
    except OSError as error:
        if error.errno not in FULL:
            raise


def tell(words: str, *, err: bool = True, indent: int = 2) -> None:
    """Say sentences: on a terminal their lines break between words."""
    say(folded(words, columns(err=err), indent), err=err)


def columns(*, err: bool) -> int:
    """Return the width of the terminal behind the stream; 0 where there is none."""
    stream = sys.stderr if err else sys.stdout
    return shutil.get_terminal_size().columns if stream.isatty() else 0
