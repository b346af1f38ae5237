"""The program `stripedjob`, also as `python -m stripedjob`: the command line, and Ctrl-C while that is being loaded."""

import gc
import os
import signal
from typing import Any

INTERRUPTED = 130


def main() -> Any:
    """Load the command line and run it. Until it can say what Ctrl-C does, Ctrl-C ends it without a traceback."""
    early = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else whoever started it has it ignored
    if early:
        signal.signal(signal.SIGINT, lambda _number, _frame: os._exit(INTERRUPTED))
    gc.disable()  # until the command is loaded: what is imported stays, and is looked through again and again
    from stripedjob import cli  # noqa: PLC0415 - what takes its time
    from stripedjob.cli import exits  # noqa: F401, PLC0415 - what cli begins with

    if early:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return cli.main()


if __name__ == "__main__":
    main()
