-- How work ends: settle a batch, complete a unit in its handler's own transaction, leave.

-- Adds a worker's counts to its job's and removes its row. The sum of both never changes, so that rates can be read
-- from it.
create or replace function @extschema@.archive_worker_counts(p_worker bigint) returns void language sql as $$
    with gone as (delete from @extschema@.worker where id = p_worker returning *)
    update @extschema@.job j set
        done = j.done + gone.done, retried = j.retried + gone.retried, delayed = j.delayed + gone.delayed,
        held = j.held + gone.held,
        dead = j.dead + gone.dead, crashed = j.crashed + gone.crashed, claimed = j.claimed + gone.claimed,
        lock_tries = j.lock_tries + gone.lock_tries, lock_refusals = j.lock_refusals + gone.lock_refusals
    from gone where j.id = gone.job_id
$$;

-- Records units as done: kept for as long as the job's retention says, or removed at once where it is 0. Returns how
-- many. p_resources, where it is not null: of these resources only; to look for each unit's resource in an array is
-- expensive. The conditions beside the id are written so that no index can serve them: a plan made while the table was
-- small would read by another one.
create or replace function @extschema@.finish_units(j @extschema@.job, p_resources text[], p_done bigint[]) returns int
    language plpgsql as $$
declare
    n int;
begin
    if j.completed_seconds = 0 then
        delete from @extschema@.unit
        where id = any(p_done) and job_id is not distinct from j.id and state is not distinct from 'ready'
            and (p_resources is null or resource = any(p_resources));
    else
        update @extschema@.unit set state = 'done', finished_at = @extschema@.clock()
        where id = any(p_done) and job_id is not distinct from j.id and state is not distinct from 'ready'
            and (p_resources is null or resource = any(p_resources));
    end if;
    get diagnostics n = row_count;
    return n;
end
$$;

-- Records units that were tried and not done. The decision is the worker's, its legality the database's; a unit that
-- was cancelled meanwhile is dead for that.
create or replace function @extschema@.fail_units(j @extschema@.job, p_worker bigint, p_resources text[],
    p_failed json) returns void language sql as $$
    with failed as (
        update @extschema@.unit u set attempts = f.attempts, crashes = f.crashes, trace = f.trace,
            state = case when u.cancelled is not null then 'dead' else f."to" end,
            reason = coalesce(u.cancelled, f.reason), cancelled = null,
            due_at = case when f."to" in ('delayed', 'ready') and u.cancelled is null then @extschema@.clock()
                + make_interval(secs => f.after) else u.due_at end,
            finished_at = case when f."to" = 'dead' or u.cancelled is not null then @extschema@.clock() end
        from json_to_recordset(p_failed)
            f(id bigint, "to" @extschema@.unit_state, attempts int, crashes int, after float8, reason text, trace text)
        cross join lateral (select unit.crashes from @extschema@.unit where id = f.id limit 1) old
        where u.id = any(array[f.id]) and u.job_id is not distinct from j.id and u.resource = any(p_resources)
            and u.state is not distinct from 'ready'
        returning u.id, u.resource, u.attempts, u.reason, u.state, u.crashes > old.crashes as crashed
    ), noted as (
        insert into @extschema@.history (slot, at, job_id, event, resource, unit, attempt, fence, who, state, reason)
        select (select slot from @extschema@.history_ring), (select @extschema@.clock()), j.id, 'failed', d.resource,
            d.id, d.attempts, (select fence from @extschema@.stripe where job_id = j.id and resource = d.resource),
            (select name from @extschema@.worker where id = p_worker), d.state, d.reason
        from failed d where j.history_seconds > 0
    ), counts as (
        select count(*) filter (where state in ('ready', 'delayed') and not crashed) retried,
            count(*) filter (where state = 'delayed') delayed,
            count(*) filter (where state = 'held') held, count(*) filter (where state = 'dead') dead,
            count(*) filter (where crashed) crashed
        from failed
    )
    update @extschema@.worker w set retried = w.retried + c.retried, delayed = w.delayed + c.delayed,
        held = w.held + c.held,
        dead = w.dead + c.dead, crashed = w.crashed + c.crashed
    from counts c where w.id = p_worker
$$;

-- Moves the stripes of settle that stay: p_kept has for each lease where its stripe is, null for those that go. A
-- resource waits for a person only where order is strict.
create or replace function @extschema@.end_leases(
    j @extschema@.job, p_kept tid[], p_worked int[], p_then text[], p_wait float8[]
) returns void language sql as $$
    update @extschema@.stripe s set
        ready = greatest(0, s.ready - x.worked), completed = 0,
        crashes = case when x.after = 'suspect' then least(s.crashes + 1,
            1000) when x.worked > 0 then 0 else s.crashes end,
        state = case x.after
            when 'keep' then 'leased' when 'wait' then 'waiting'
            else case when s.paused then 'waiting' else 'ready' end end::@extschema@.stripe_state,
        worker_id = case when x.after = 'keep' then s.worker_id end,
        rank = case when x.after = 'keep' then s.rank else @extschema@.clock() - s.importance * interval '1 minute' end,
        next_at = case when s.paused and x.after is distinct from 'keep' then 'infinity'
            when x.after = 'wait' then case when x.wait < 'infinity' then @extschema@.clock()
            + make_interval(secs => x.wait)
            when j.on_failure = 'Block' and @extschema@.has_held(j.id, s.resource) then 'infinity'
            else @extschema@.clock() end end
    from unnest(p_kept, p_worked, p_then, p_wait) x(place, worked, after, wait)
    where s.ctid = x.place
$$;
