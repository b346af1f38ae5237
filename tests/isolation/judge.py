"""What must hold between two steps, and at the end, when whoever is alive works off what is left.

A journal, which triggers keep in the transaction of whoever changes a unit, says which units came in and what became
of each.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
from tests.isolation import calls

if TYPE_CHECKING:
    from tests.isolation.calls import Leased
    from tests.isolation.world import World

ROUNDS_MAX = 50
IDLE_ROUNDS_MAX = 5
JOURNAL = """
create table public.journal (
    n bigint generated always as identity, job_id int, unit_id bigint, resource text, what text
);
create index on public.journal (job_id, unit_id);
create function public.note_unit() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' then
        insert into public.journal (job_id, unit_id, resource, what) values (new.job_id, new.id, new.resource, 'in');
    elsif tg_op = 'UPDATE' then
        insert into public.journal (job_id, unit_id, what) values (new.job_id, new.id, 'done');
    elsif old.state <> 'done' then
        insert into public.journal (job_id, unit_id, what) values (old.job_id, old.id,
            case when current_query() ~ 'striped\\.(settle|complete)\\(' then 'done' else 'removed' end);
    end if;
    return null;
end
$$;
create trigger note after insert or delete on striped.unit for each row execute function public.note_unit();
create trigger note_done after update of state on striped.unit
    for each row when (new.state = 'done' and old.state <> 'done') execute function public.note_unit();
"""
NOW = """
select (select count(*) from striped.worker where job_id = j.id and working),
    (select count(distinct worker_id) from striped.stripe where job_id = j.id and state = 'leased')
from striped.job j where j.id = %s"""
ORPHANS = """
select resource from striped.stripe s where job_id = %s and worker_id is not null
    and not exists (select from striped.worker w where w.id = s.worker_id)"""
IS_ITS = "select from striped.stripe where job_id = %s and resource = %s and fence = %s and state = 'leased'"
UNIT_STATES = """
select unit_id, array_agg(what order by what) filter (where what <> 'in') from public.journal where job_id = %s
group by unit_id having count(*) filter (where what <> 'in') <> 1 or count(*) filter (where what = 'in') <> 1"""
PAUSED = """
select resource from striped.stripe where job_id = %s and paused
union select resource from striped.pause where job_id = %s"""
PERIODS = """
select resource, count(*) from public.journal where job_id = %s and resource = 'period' and what = 'in'
group by resource having count(*) > 1"""
LEFT = """
select 'unit ' || id || ' of ' || resource || ' is ' || state
    from striped.unit where job_id = %(job)s and state <> 'done'
union all select 'resource ' || resource || ' is ' || state || coalesce(' of worker ' || worker_id, '')
    from striped.stripe where job_id = %(job)s
union all select 'a wake of ' || resource from striped.wake where job_id = %(job)s"""
TIME_PASSES = """
with units as (
    update striped.unit set due_at = clock_timestamp() where job_id = %(job)s and state = 'delayed'
)
update striped.stripe set next_at = clock_timestamp()
where job_id = %(job)s and state = 'waiting' and next_at < 'infinity'"""


def watch(world: World) -> list[str]:
    """Say what is wrong of what must hold at any time: the cap, what was handed out, and what the scene wants."""
    faults = [fault for check in world.checks for fault in check(world)]
    working, owners = world.conn.execute(NOW, [world.id]).fetchone() or (0, 0)
    if working > world.cap or owners > world.cap:
        faults.append(f"the limit is {world.cap}, but {working} have a slot and {owners} hold leases")
    fences = [(one.resource, one.fence) for one in world.handed_out]
    for resource in {name for name, _ in fences}:
        drawn = [fence for name, fence in fences if name == resource]
        if drawn != sorted(set(drawn)):
            faults.append(f"the fences of {resource} do not grow: {drawn}")
    return faults


def knowledge(world: World) -> list[tuple[str, str, bool]]:
    """Say which leases workers know of, and whether those are theirs; what the pool's rows do not show."""
    return [
        (name, leased.resource, is_its)
        for name, leases in world.known.items()
        for leased in leases.values()
        for is_its in [bool(world.conn.execute(IS_ITS, [world.id, leased.resource, leased.fence]).fetchone())]
    ]


def judge(world: World) -> list[str]:
    """Say what is wrong at the end."""
    world.upkeep(world.conn)
    world.upkeep(world.conn)
    faults = [f"{resource} belongs to a worker that has no row" for resource, *_ in _rows(world, ORPHANS)]
    faults += _unknown_leases(world)
    if not world.job.delegated and _rows(world, "select from striped.stripe where job_id = %s and state = 'assigned'"):
        faults.append("resources are assigned, in a job without a delegator")
    try:
        faults += _work_off(world)
    except psycopg.Error as error:
        return [*faults, f"going on fails: {error.sqlstate} {error.diag.message_primary}"]
    faults += [f"left over: {what}" for (what,) in world.conn.execute(LEFT, {"job": world.id})]
    faults += [f"unit {unit} was {what or 'never done'}" for unit, what in _rows(world, UNIT_STATES)]
    faults += [f"a {name} of the schedule was served {times} times" for name, times in _rows(world, PERIODS)]
    return faults + _counts(world)


def _rows(world: World, query: str) -> list[tuple[str, str]]:
    return world.conn.execute(query.encode(), [world.id]).fetchall()


def _unknown_leases(world: World) -> list[str]:
    faults = []
    for name, worker in world.workers.items():
        query = "select resource, fence from striped.stripe where worker_id = %s and state = 'leased'"
        for resource, fence in world.conn.execute(query, [worker.id]):
            known = world.known[name].get(resource)
            if known is None or known.fence != fence:
                faults.append(f"{name} holds {resource} under fence {fence}, and does not know of it")
    return faults


def _work_off(world: World) -> list[str]:
    """Let whoever is alive end what it has, go on once and leave; a new worker does the rest, then what was held."""
    conn = world.conn
    if world.job.schedule_limit == 0 or world.job.breaker_failures:
        world.apply(conn, replace(world.job, schedule_limit=max(1, world.job.schedule_limit), breaker_failures=0))
    for (resource,) in conn.execute(PAUSED.encode(), [world.id, world.id]).fetchall():
        world.resume_paused(conn, resource)
    if world.job.delegated:
        conn.execute("update striped.delegator set expires_at = '-infinity' where job_id = %s", [world.id])
        world.lead(conn, "judge")
        world.delegate(conn, "judge")
    before = len(world.handed_out)
    for name in world.workers:
        _go_on_once(world, name)
    world.register(conn, "new")
    faults = _rounds(world, before)
    if sum([world.revive(conn, state) for state in ("held", "dead")]):
        faults += _rounds(world, len(world.handed_out))
    world.leave(conn, "new")
    return faults


def _go_on_once(world: World, name: str) -> None:
    try:
        if world.known[name]:
            world.batch.pop(name, None)
            world.settle(world.conn, name, then="ready", to="ready")
        _claim_and_settle(world, name)
        world.leave(world.conn, name)
    except psycopg.Error as error:
        if error.sqlstate != calls.LOST:
            raise


def _claim_and_settle(world: World, name: str) -> bool:
    world.claim(world.conn, name)
    found = bool(world.known[name])
    if found:
        world.settle(world.conn, name)
    return found


def _rounds(world: World, before: int) -> list[str]:
    """Let the new worker, and the delegator, go on until nothing is left, or nothing comes any more.

    Where order is strict, it is so from the n-th lease that was handed out.
    """
    conn, idle = world.conn, 0
    for _ in range(ROUNDS_MAX):
        if world.job.delegated:
            world.delegate(conn, "judge")
        world.upkeep(conn)
        idle = 0 if _claim_and_settle(world, "new") else idle + 1
        if idle and (idle == IDLE_ROUNDS_MAX or calls.is_empty(conn, world.id)):
            break
        if idle:
            conn.execute(TIME_PASSES, {"job": world.id})
    return _disorder(world.handed_out[before:]) if world.job.on_failure == "Block" else []


def _disorder(handed_out: list[Leased]) -> list[str]:
    order = dict[str, list[int]]()
    for leased in handed_out:
        order.setdefault(leased.resource, []).extend(leased.ids)
    return [f"{name} was handed out in the order {ids}" for name, ids in order.items() if ids != sorted(ids)]


def _counts(world: World) -> list[str]:
    done = calls.value(world.conn, "select count(*) from public.journal where job_id = %s and what = 'done'", world.id)
    counted = calls.value(world.conn, "select total_done from striped.job_status where id = %s", world.id)
    return [] if done == counted else [f"{done} units were done, {counted} are counted"]
