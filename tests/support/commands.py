"""One-shot commands of `stripedjob`, forked off a process that has loaded most of what they import.

Each is a process of its own with the arguments, the input, the environment and the folder that it is given, as if it
were started by `python -m stripedjob`; what a start by itself is like is for test_terminal.py and test_run.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tests.support.forks import FORKS

if TYPE_CHECKING:
    from collections.abc import Sequence


def run_forked(args: Sequence[str], stdin: str, seconds: float) -> subprocess.CompletedProcess[str]:
    """Run one command to its end. Raises TimeoutError, and ends it."""
    with TemporaryDirectory() as folder:
        given, out, err = (Path(folder) / name for name in ("in", "out", "err"))
        given.write_text(stdin, encoding="utf-8", newline="")
        process = FORKS.Process(target=_command, args=(list(args), (given, out, err), dict(os.environ)))
        process.start()
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise TimeoutError(f"stripedjob {args}: not within {seconds} s")
        said, told = out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8")
        return subprocess.CompletedProcess(["stripedjob", *args], process.exitcode, said, told)


def _command(args: list[str], files: tuple[Path, Path, Path], env: dict[str, str]) -> None:
    """Be the command; its process has this one's folder, and ends as a script does."""
    for number, file in enumerate(files):
        opened = os.open(file, os.O_RDWR | os.O_CREAT)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115 - to the end
    sys.stderr = open(2, "w", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115 - as above
    os.environ.clear()
    os.environ.update(env)
    sys.argv = ["stripedjob", *args]
    from stripedjob.__main__ import main  # noqa: PLC0415 - it looks at its environment

    main()
