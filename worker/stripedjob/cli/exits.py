"""Exit codes, and the one place where errors become them. The codes are those of sysexits.h.

0  done                           65  EX_DATAERR      the input has mistakes; nothing of it was used
1  it could not be done           69  EX_UNAVAILABLE  Postgres or the lock backend cannot be reached
2  wrong usage                    77  EX_NOPERM       Postgres or the lock backend refused
78 EX_CONFIG  the StripedJob, a URL, the handler or the schema is wrong
130 interrupted by Ctrl-C
"""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from stripedjob.cli.say import columns, say
from stripedjob.text import folded, printable

INTERRUPTED = 130


class DataError(Exception):
    """Input that cannot be used."""


class Failure(Exception):  # noqa: N818 - with a code of its own
    """A command that ends with this code; the message was shown already where it is empty."""

    def __init__(self, code: int, message: str = "") -> None:
        """Take the exit code and what to say."""
        super().__init__(message)
        self.code = code


def code_of(error: BaseException) -> int | None:
    """Return the exit code of an expected error; None for one that nobody expected."""
    from stripedjob.locks import LockConfigError, LockUnavailable
    from stripedjob.pool import errors
    from stripedjob.runtime.executor.supervisor import HandlerError
    from stripedjob.spec.load import SpecError

    codes: tuple[tuple[tuple[type[BaseException], ...], int], ...] = (
        ((Failure,), getattr(error, "code", 1)),
        ((DataError,), os.EX_DATAERR),
        ((errors.PoolUnreachableError, LockUnavailable), os.EX_UNAVAILABLE),
        ((errors.PoolRefusedError,), os.EX_NOPERM),
        ((SpecError, errors.PoolSchemaError, errors.PoolConfigError, LockConfigError, HandlerError), os.EX_CONFIG),
        ((errors.PoolError,), 1),
    )
    found = next((code for kinds, code in codes if isinstance(error, kinds)), None)
    if found is None and type(error).__name__ == "EngineError":
        return os.EX_UNAVAILABLE
    return 1 if found is None and isinstance(error, OSError) else found


def words_of(error: BaseException) -> str:
    """Say what an expected error says: of one of the system's, the file first, and no number."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    return f"{os.fsdecode(error.filename)}: {error.strerror}" if error.filename else error.strerror


@contextmanager
def exits() -> Iterator[None]:
    """Turn an expected error into its message and code, and never show a traceback for one."""
    try:
        yield
    except (KeyboardInterrupt, click.Abort):  # what click makes of Ctrl-C
        sys.exit(INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.EPIPE:  # the reader of our output has gone
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.exit(1)
        code = code_of(error)
        if code is None:
            raise
        words = "\n".join(printable(line) for line in words_of(error).splitlines())
        if words:
            red = None if os.environ.get("NO_COLOR") else "red"
            first, _, rest = folded(f"error: {words}", columns(err=True)).partition(" ")
            say(f"{click.style(first, fg=red)} {rest}")
        sys.exit(code)
