"""Loads a job's handler once, as its workers will, before anything else is started for it.

Importing runs the user's code, so it is done in a process of its own; what that prints is not shown, the workers' is.
Called by the command line; `python -m stripedjob.local.trial` is that process.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from stripedjob.runtime.executor.process import OUR_VARIABLES
from stripedjob.runtime.executor.supervisor import HandlerError

TRIAL_SECONDS_MAX = 60.0  # a module that takes longer to import is the workers' matter


@dataclass(frozen=True, slots=True)
class Trial:
    """A handler that is being loaded: start(), do something else meanwhile, then verdict()."""

    process: "subprocess.Popen[bytes]"

    @classmethod
    def start(cls, function: str, arguments: int, around: str, path: Path) -> Self:
        """Begin to load `pkg.mod:func`, which is to take so many arguments, and what goes around it, "" for nothing.

        `path` is where workers look first.
        """
        command = [sys.executable, "-P", "-m", "stripedjob.local.trial"]
        process = subprocess.Popen(
            [*command, json.dumps([function, arguments, around, str(path)])],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={name: value for name, value in os.environ.items() if name not in OUR_VARIABLES},
            start_new_session=True,
        )
        return cls(process)

    def verdict(self) -> str:
        """Wait for it: "" where it can be called, or the name of a module that is not here. Raises HandlerError.

        What ends its process or takes too long can be called: workers have their own ways with that.
        """
        try:
            said, _ = self.process.communicate(timeout=TRIAL_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            return ""
        finally:
            self.process.kill()
            self.process.wait()
        absent, words = json.loads(said) if said else ("", "")
        if words:
            raise HandlerError(words)
        return str(absent)


def main() -> None:
    """Load the handler that the argument names; the answer is which module is not here, and what is wrong."""
    function, arguments, around, path = json.loads(sys.argv[1])
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace")
    os.dup2(2, 1)  # what the module prints is no answer
    pid = os.getpid()
    sys.path.insert(0, path)
    from stripedjob.runtime.executor.faults import loading_fault  # noqa: PLC0415 - the path first, as in an executor
    from stripedjob.runtime.handlers.around import AroundError, load_around  # noqa: PLC0415 - as above
    from stripedjob.runtime.handlers.python import is_coroutine_function, load_function  # noqa: PLC0415 - as above

    said = "", ""
    try:
        load_around(around, is_async=is_coroutine_function(load_function(function, arguments)))
    except BaseException as error:  # noqa: BLE001 - importing runs the user's code, which may also exit
        absent = _absent(error.__cause__, around) if type(error) is AroundError else _absent(error, function)
        said = absent, "" if absent else loading_fault(error, f"python: {function}")
    if os.getpid() == pid:
        json.dump(said, answer)
        answer.close()
    os._exit(0)  # threads that the module has started are nobody's matter


def _absent(error: BaseException | None, name: str) -> str:
    """Return the top package of a function's name where it is what cannot be found; else ""."""
    root = name.partition(":")[0].partition(".")[0]
    return root if isinstance(error, ModuleNotFoundError) and error.name == root else ""


if __name__ == "__main__":
    main()
