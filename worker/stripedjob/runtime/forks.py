"""Children that a handler forks: they are no executors, and never speak or write in its name.

A child that comes back out of the handler ends there, as a script would: with its traceback, and its exit code.
"""

import os
import sys
import traceback

_ids = [os.getpid()]
os.register_at_fork(after_in_child=lambda: _ids.__setitem__(0, os.getpid()))


def process_id() -> int:
    """Return the number of this process, without asking the kernel, which costs more than all else that a unit does."""
    return _ids[0]


def end_if_forked(pid: int, error: BaseException | None) -> None:
    """End this process where it is not the one that had the number `pid`: it came back by `error`, or returned."""
    if process_id() == pid:
        return
    code = 1
    try:
        code = _exit_code(error)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _exit_code(error: BaseException | None) -> int:
    if error is None:
        return 0
    if isinstance(error, SystemExit):
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF
        print(error.code, file=sys.stderr)  # noqa: T201 - as the interpreter does
        return 1
    traceback.print_exception(error)
    return 1
