"""The handlers of jobs whose workers are pods; they reach them by a ConfigMap."""

import os
import time
from typing import Any


def work(unit: Any, conn: Any) -> None:
    """Take the seconds that the payload says, and record the interval; or raise.

    The sequence counts every start of what takes time, also of work that is rolled back.
    """
    began = conn.execute("select clock_timestamp()").fetchone()[0]
    if unit.payload:
        conn.execute("select nextval('starts')")
    if unit.payload == "raise":
        raise ValueError("broken")
    time.sleep(unit.payload or 0)
    conn.execute(
        "insert into effect (unit, resource, fence, pod, began, ended) values (%s, %s, %s, %s, %s, clock_timestamp())",
        [unit.id, unit.resource, unit.fence, os.environ["STRIPEDJOB_WORKER"], began],
    )


def work_all(units: Any, conn: Any) -> None:
    """Take the seconds of a resource's units, and record the interval of all of them together."""
    began = conn.execute("select clock_timestamp()").fetchone()[0]
    time.sleep(sum(unit.payload for unit in units))
    ids, first, pod = [unit.id for unit in units], units[0], os.environ["STRIPEDJOB_WORKER"]
    conn.execute(
        "insert into effect (unit, resource, fence, pod, began, ended)"
        " select unnest(%s::bigint[]), %s, %s, %s, %s, statement_timestamp()",
        [ids, first.resource, first.fence, pod, began],
    )
