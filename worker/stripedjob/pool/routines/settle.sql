-- How work ends: settle a batch, complete a unit in its handler's own transaction, leave.

-- Adds a worker's counts to its job's and removes its row. The sum of both never changes, so that rates can be read from it.
create or replace function @extschema@.archive_worker_counts(p_worker bigint) returns void language sql as $$
    with gone as (delete from @extschema@.worker where id = p_worker returning *)
    update @extschema@.job j set
        done = j.done + gone.done, retried = j.retried + gone.retried, delayed = j.delayed + gone.delayed, held = j.held + gone.held,
        dead = j.dead + gone.dead, crashed = j.crashed + gone.crashed, claimed = j.claimed + gone.claimed,
        lock_tries = j.lock_tries + gone.lock_tries, lock_refusals = j.lock_refusals + gone.lock_refusals
    from gone where j.id = gone.job_id
$$;

-- Records units as done: kept for as long as the job's retention says, or removed at once where it is 0. Returns how many.
-- p_resources, where it is not null: of these resources only; to look for each unit's resource in an array is expensive.
-- The conditions beside the id are written so that no index can serve them: a plan made while the table was small would read by another one.
create or replace function @extschema@.finish_units(j @extschema@.job, p_resources text[], p_done bigint[]) returns int language plpgsql as $$
declare
    n int;
begin
    if j.completed_seconds = 0 then
        delete from @extschema@.unit
        where id = any(p_done) and job_id is not distinct from j.id and state is not distinct from 'ready'
            and (p_resources is null or resource = any(p_resources));
    else
        update @extschema@.unit set state = 'done', finished_at = clock_timestamp()
        where id = any(p_done) and job_id is not distinct from j.id and state is not distinct from 'ready'
            and (p_resources is null or resource = any(p_resources));
    end if;
    get diagnostics n = row_count;
    return n;
end
$$;

-- Records units that were tried and not done. The decision is the worker's, its legality the database's.
create or replace function @extschema@.fail_units(j @extschema@.job, p_worker bigint, p_resources text[], p_failed json) returns void language sql as $$
    with failed as (
        update @extschema@.unit u set state = f."to", attempts = f.attempts, crashes = f.crashes, reason = f.reason, trace = f.trace,
            due_at = case when f."to" = 'delayed' then clock_timestamp() + make_interval(secs => f.after) else u.due_at end,
            finished_at = case when f."to" = 'dead' then clock_timestamp() end
        from json_to_recordset(p_failed)
            f(id bigint, "to" @extschema@.unit_state, attempts int, crashes int, after float8, reason text, trace text),
            @extschema@.unit old
        where u.id = f.id and old.id = f.id and u.job_id = j.id and u.resource = any(p_resources) and u.state = 'ready'
        returning u.state, u.crashes > old.crashes as crashed
    ), counts as (
        select count(*) filter (where state in ('ready', 'delayed') and not crashed) retried,
            count(*) filter (where state = 'delayed') delayed,
            count(*) filter (where state = 'held') held, count(*) filter (where state = 'dead') dead,
            count(*) filter (where crashed) crashed
        from failed
    )
    update @extschema@.worker w set retried = w.retried + c.retried, delayed = w.delayed + c.delayed, held = w.held + c.held,
        dead = w.dead + c.dead, crashed = w.crashed + c.crashed
    from counts c where w.id = p_worker
$$;

-- Records what became of leased units, in one transaction. Invariant: where a lease is no longer the worker's under this fence,
-- nothing of it is recorded; those resources are returned, and counted as stale. A batch that comes again, because the answer to it
-- was lost, changes nothing.
--   p_batch  its number, which grows for each worker
--   p_resources, p_fences, p_worked   the leases, and how many units of each are in p_done
--   p_then   null: all are 'idle'; for each lease: 'keep' it; or end it, and the resource is 'idle' (nothing left, unless units came meanwhile),
--            'ready' (units are left), 'suspect' (ready, and to be leased alone: it may have killed its worker), or 'wait's
--   p_wait   seconds for 'wait'; infinity: until a person releases a held unit of it
--   p_done   ids of the units that were worked
--   p_failed null, or [{"id", "to": "ready"|"delayed"|"held"|"dead", "attempts", "crashes", "after": seconds, "reason", "trace"}]
create or replace function @extschema@.settle(
    p_job int, p_worker bigint, p_batch bigint, p_resources text[], p_fences bigint[], p_worked int[], p_then text[], p_wait float8[],
    p_done bigint[], p_failed json, p_claimed int, p_lock_tries int, p_lock_refusals int
) returns text[] language plpgsql as $$
declare
    j @extschema@.job;
    valid text[]; -- the leases that are the worker's
    kept text[];  -- of these, the ones whose stripe stays
    idle tid[];   -- where the stripes of the others are
    completed int; -- units of these that the handler's own transactions recorded, under this lease or one that was lost
    n int := 0;
begin
    if (select batch from @extschema@.worker where id = p_worker for no key update) >= p_batch then
        return '{}';
    end if;
    select * into j from @extschema@.job where id = p_job;
    select array_agg(l.resource), array_agg(l.resource) filter (where not l.goes), array_agg(l.place) filter (where l.goes), sum(l.completed)
    into valid, kept, idle, completed
    from (
        select x.resource, s.completed, s.place, coalesce(x.after, 'idle') = 'idle' and not s.woken as goes
        from (select * from unnest(p_resources, p_fences, p_then) u(resource, fence, after) order by resource) x
        -- One look by the primary key for each: any other plan goes through all that was leased lately, again and again. A stripe that
        -- has an owner is leased, so `state` need not be asked for, which would tempt the planner to another index.
        cross join lateral (
            select woken, stripe.completed, ctid as place from @extschema@.stripe
            where job_id = p_job and resource = x.resource and worker_id is not distinct from p_worker and fence = x.fence
            for update
        ) s
    ) l;
    if valid is not null then
        n := @extschema@.finish_units(j, case when cardinality(valid) < cardinality(p_resources) then valid end, p_done);
        if p_failed is not null then
            perform @extschema@.fail_units(j, p_worker, valid, p_failed);
        end if;
        delete from @extschema@.stripe where ctid = any(idle);
        if j.delegated and exists (select from @extschema@.worker where job_id = p_job and lacks > 0) then
            perform @extschema@.notify_delegator(p_job);
        end if;
        if kept is not null then
            perform @extschema@.end_leases(j, kept, p_resources, p_worked, p_then, p_wait);
        end if;
    end if;
    update @extschema@.worker w set batch = p_batch, settled_at = clock_timestamp(), done = w.done + n + coalesce(completed, 0), claimed = w.claimed + p_claimed,
        lock_tries = w.lock_tries + p_lock_tries, lock_refusals = w.lock_refusals + p_lock_refusals
    where id = p_worker;
    if p_failed is not null or 'wait' = any(p_then) then
        perform @extschema@.notify_idle(p_job, 1); -- who waits for what happens next is to know of this
    end if;
    if cardinality(p_resources) > coalesce(cardinality(valid), 0) then
        update @extschema@.job set stale = stale + cardinality(p_resources) - coalesce(cardinality(valid), 0) where id = p_job;
    end if;
    return case when cardinality(p_resources) = cardinality(valid) then '{}' else array(
        select unnest(p_resources) except select unnest(valid)) end;
end
$$;

-- For a handler whose effect is in this database: called at the end of its own transaction, it records the units as done in it.
-- False: the lease is no longer valid, and the transaction must be rolled back. The stripe is locked until the commit, so that
-- the lease cannot pass to another in between. The next settlement of the resource counts the units, also where this worker dies before.
create or replace function @extschema@.complete(p_job int, p_worker bigint, p_resource text, p_fence bigint, p_done bigint[])
returns boolean language plpgsql as $$
declare
    j @extschema@.job;
begin
    update @extschema@.stripe set ready = greatest(0, ready - cardinality(p_done)), completed = completed + cardinality(p_done), crashes = 0
    where job_id = p_job and resource = p_resource and state = 'leased' and worker_id = p_worker and fence = p_fence;
    if not found then
        return false;
    end if;
    select * into j from @extschema@.job where id = p_job;
    return @extschema@.finish_units(j, array[p_resource], p_done) = cardinality(p_done);
end
$$;

-- Moves the stripes of settle that stay: p_kept of p_resources. A resource waits for a person only where order is strict.
create or replace function @extschema@.end_leases(
    j @extschema@.job, p_kept text[], p_resources text[], p_worked int[], p_then text[], p_wait float8[]
) returns void language sql as $$
    update @extschema@.stripe s set
        ready = greatest(0, s.ready - x.worked), completed = 0,
        crashes = case when x.after = 'suspect' then least(s.crashes + 1, 1000) when x.worked > 0 then 0 else s.crashes end,
        state = case x.after when 'keep' then 'leased' when 'wait' then 'waiting' else 'ready' end::@extschema@.stripe_state,
        worker_id = case when x.after = 'keep' then s.worker_id end,
        rank = case when x.after = 'keep' then s.rank else clock_timestamp() - s.importance * interval '1 minute' end,
        next_at = case when x.after = 'wait' then case when x.wait < 'infinity' then clock_timestamp() + make_interval(secs => x.wait)
            when j.on_failure = 'Block' and exists (
                select from @extschema@.unit u where u.job_id = j.id and u.resource = s.resource and u.state = 'held') then 'infinity'
            else clock_timestamp() end end
    from unnest(p_resources, p_worked, p_then, p_wait) x(resource, worked, after, wait)
    where s.job_id = j.id and s.resource = any(p_kept) and x.resource = s.resource
$$;

-- A worker goes: what it still holds is ready again at once, and no crash is counted.
create or replace function @extschema@.leave(p_worker bigint) returns void language plpgsql as $$
declare
    w @extschema@.worker;
begin
    select * into w from @extschema@.worker where id = p_worker for update; -- from here on nothing is assigned to it
    update @extschema@.stripe s set state = 'ready', worker_id = null
    where s.job_id = w.job_id and s.resource = any(array(
        select resource from @extschema@.stripe where worker_id = p_worker and state = 'leased' order by resource for update));
    perform @extschema@.unassign(p_worker);
    perform @extschema@.archive_worker_counts(p_worker);
    perform @extschema@.notify_ready(w.job_id);
end
$$;
