"""The pool's routines, as steps in the scene `busy`: in a job with strict order, and in a throttled one.

Those that do something else where a circuit breaker is half open, in `busy_half_open`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tests.isolation.specs import do
from tests.isolation.world import FIFO, THROTTLED, World

if TYPE_CHECKING:
    from tests.isolation.harness import Step

ROUTINES: dict[str, Step[World]] = {
    "upkeep": do(World.upkeep),
    "clean": do(World.clean),
    "note times": do(World.note_times),
    "register": do(World.register, "w4"),
    "claim": do(World.claim, "w1"),
    "claim of the dead": do(World.claim, "w2"),
    "claim of a third": do(World.claim, "w3"),
    "settle": do(World.settle, "w1", "a"),
    "settle as failed": do(World.settle, "w1", "a", "wait", "held"),
    "settle of the dead": do(World.settle, "w2", "b"),
    "complete": do(World.complete, "w1", "a"),
    "renew": do(World.renew, "w2"),
    "resume": do(World.resume, "w1"),
    "poll": do(World.poll, "w3"),
    "leave": do(World.leave, "w1"),
    "enqueue": do(World.enqueue, "c"),
    "enqueue of many": do(World.enqueue_rows, "a", "c", "n"),
    "fire": do(World.fire),
    "revive": do(World.revive, "held"),
    "purge": do(World.purge, "held"),
    "cancel": do(World.cancel, "ready"),
    "cancel of held": do(World.cancel, "held"),
    "retry now": do(World.retry_now),
    "pause": do(World.pause, "a"),
    "resume of a pause": do(World.resume_paused, "j"),
    "clear": do(World.clear),
}
FIFOS = ROUTINES | {"apply": do(World.apply, replace(FIFO, on_failure="Skip"))}
THROTTLES = ROUTINES | {
    "delegate": do(World.delegate, "d1"),
    "apply": do(World.apply, replace(THROTTLED, area_label="country")),
}
HALF_OPENS: dict[str, Step[World]] = {
    "claim": ROUTINES["claim"],
    "settle": ROUTINES["settle"],
    "settle as failed": do(World.settle, "w1", "a", "ready", "ready"),
    "resume of the job": do(World.resume_job),
}
