"""What a command says beside its result: a line of it may be lost, and the command goes on."""

import errno

import click

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def say(words: str, *, err: bool = True) -> None:
    """Write a line, to stderr unless told otherwise; where the volume behind the stream is full, it is lost."""
    try:
        click.echo(words, err=err)
    except OSError as error:
        if error.errno not in FULL:
            raise
