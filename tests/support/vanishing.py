"""A handler that dies, and whose module cannot be imported a second time."""

import os
from pathlib import Path

from stripedjob.unit import Unit

flag = Path(os.environ["STRIPEDJOB_TEST_FLAG"])
if flag.exists():
    raise ImportError("gone for good")
flag.touch()


def act(_unit: Unit) -> None:
    os._exit(1)
