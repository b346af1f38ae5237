"""Where a pool stands before sessions meet in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.isolation.world import World

Scene = Callable[["World"], None]
ROUNDS_MAX = 10


def put(world: World, *resources: str) -> None:
    """Put a unit of each resource in, and fold its wake."""
    for resource in resources:
        world.enqueue(world.conn, resource)
    keep_up(world)


def keep_up(world: World) -> None:
    if world.job.delegated:
        if "d1" not in world.terms:
            world.lead(world.conn, "d1")
        world.delegate(world.conn, "d1")
    else:
        world.upkeep(world.conn)


def holder(world: World, name: str, *resources: str) -> None:
    """Make a worker with a lease of each of these resources, which must be new."""
    if name not in world.workers:
        world.register(world.conn, name)
    for resource in resources:
        put(world, resource)
        for _ in range(ROUNDS_MAX):
            world.claim(world.conn, name, 1)
            if resource in world.known[name]:
                break
            keep_up(world)
        assert resource in world.known[name], f"{name} does not get {resource}"


def holding(*leases: str, ready: tuple[str, ...] = (), woken: tuple[str, ...] = ()) -> Scene:
    """`w1` holds these, others are ready, or have a wake that was not folded."""

    def scene(world: World) -> None:
        holder(world, "w1", *leases)
        put(world, *ready)
        for resource in woken:
            world.enqueue(world.conn, resource)

    return scene


def busy(world: World) -> None:
    """Give every routine something to do.

    `w1` is alive and holds `a`, `w2` died with `b`, `w3` has no slot. `c` is ready, `d` only woken; `e` is held back by
    a unit that is due later, `f` has one that is due now; `g` has a held unit, `h` a dead one, `i` one that is to go;
    `j` is paused. Times were said two hours ago, and now.
    """
    conn = world.conn
    holder(world, "w1", "a")
    holder(world, "w2", "b")
    world.register(conn, "w3")
    for resource in ("c", "g", "h", "i"):
        world.enqueue(conn, resource)
    world.enqueue(conn, "e", 3600)
    world.enqueue(conn, "e")
    world.enqueue(conn, "f", 3600)
    conn.execute("update striped.unit set due_at = clock_timestamp() where job_id = %s and resource = 'f'", [world.id])
    keep_up(world)
    set_aside(world, "g", "held")
    set_aside(world, "h", "dead")
    set_aside(world, "i", "dead", "clock_timestamp() - interval '1 year'")
    world.pause(conn, "j")
    world.enqueue(conn, "j")
    world.enqueue(conn, "d")
    world.note_times(conn)
    conn.execute("update striped.times set minute = minute - interval '2 hours' where job_id = %s", [world.id])
    world.note_times(conn)
    world.expire(conn, "w2")
    world.fire(conn)
    conn.execute("update striped.turn set at = '-infinity' where job_id = %s and kind = 'clean'", [world.id])


def busy_half_open(world: World) -> None:
    """Be as busy as that, in a job whose circuit breaker has been open for long enough."""
    busy(world)
    world.conn.execute(
        "update striped.job set alike = 1, alike_kind = 'it failed', openings = 1, opened_at = clock_timestamp(),"
        " open_until = clock_timestamp() where id = %s",
        [world.id],
    )


def refitting(world: World) -> None:
    """Be as busy as that, a moment after the label of the throttle has changed."""
    busy(world)
    world.apply(world.conn, replace(world.job, area_label="town"))


def set_aside(world: World, resource: str, state: str, since: str = "clock_timestamp()") -> None:
    """Leave a resource with nothing but a unit in this state, as a settlement does."""
    finished = since if state == "dead" else "null"
    world.conn.execute(
        f"update striped.unit set state = '{state}', reason = 'it failed', finished_at = {finished}"  # noqa: S608
        " where job_id = %s and resource = %s".encode(),
        [world.id, resource],
    )
    if world.job.on_failure == "Block" and state == "held":
        after = "update striped.stripe set state = 'waiting', next_at = 'infinity', worker_id = null"
    else:
        after = "delete from striped.stripe"
    world.conn.execute(f"{after} where job_id = %s and resource = %s".encode(), [world.id, resource])
