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
ABSENT = "absent"  # the module is not on this machine's path; any other answer is what is wrong with the handler


@dataclass(frozen=True, slots=True)
class Trial:
    """A handler that is being loaded: start(), do something else meanwhile, then verdict()."""

    name: str
    process: "subprocess.Popen[bytes]"

    @classmethod
    def start(cls, function: str, arguments: int, path: Path) -> Self:
        """Begin to load `pkg.mod:func`, which is to take so many arguments; `path` is where workers look first."""
        command = [sys.executable, "-P", "-m", "stripedjob.local.trial"]
        process = subprocess.Popen(
            [*command, json.dumps([function, arguments, str(path)])],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={name: value for name, value in os.environ.items() if name not in OUR_VARIABLES},
            start_new_session=True,
        )
        return cls(function, process)

    def verdict(self) -> bool:
        """Wait for it; True: it can be called, False: its module is not here. Raises HandlerError with the reason.

        What ends its process or takes too long counts as True: workers have their own ways with that.
        """
        try:
            said, _ = self.process.communicate(timeout=TRIAL_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            return True
        finally:
            self.process.kill()
            self.process.wait()
        answer = said.decode(errors="replace")
        if answer == ABSENT:
            return False
        if answer:
            raise HandlerError(f"handler python: {self.name} cannot be loaded: {answer}")
        return True


def main() -> None:
    """Load the handler that the argument names; the answer is what is wrong with it, or nothing."""
    function, arguments, path = json.loads(sys.argv[1])
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace")
    os.dup2(2, 1)  # what the module prints is no answer
    pid = os.getpid()
    sys.path.insert(0, path)
    from stripedjob.runtime.executor.faults import import_fault  # noqa: PLC0415 - the path first, as in an executor
    from stripedjob.runtime.handlers.python import load_function  # noqa: PLC0415 - as above

    said = ""
    try:
        load_function(function, arguments)
    except BaseException as error:  # noqa: BLE001 - importing runs the user's code, which may also exit
        root = function.partition(":")[0].partition(".")[0]
        absent = isinstance(error, ModuleNotFoundError) and error.name == root
        said = ABSENT if absent else import_fault(error)
    if os.getpid() == pid:
        answer.write(said)
        answer.close()
    os._exit(0)  # threads that the module has started are nobody's matter


if __name__ == "__main__":
    main()
