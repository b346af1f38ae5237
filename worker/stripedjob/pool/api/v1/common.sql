-- What every role but the enqueuer may call.

-- The id of a job, or an error that says what to do.
create or replace function @extschema@.job_id(p_namespace text, p_job_type text) returns int
    language plpgsql stable as $$
declare
    found_id int;
begin
    select id into found_id from @extschema@.job where namespace = p_namespace and job_type = p_job_type;
    if found_id is null then
        raise exception 'there is no job type "%" in namespace "%"', p_job_type, p_namespace
            using errcode = 'no_data_found', hint = 'Apply its StripedJob first, or run "stripedjob migrate FILE".';
    end if;
    return found_id;
end
$$;

-- One row of numbers for each job; the totals are since the job was made. Units are counted as they come and go;
-- resources are counted as far as 10,000 of each kind.
create or replace view @extschema@.job_status as
select j.id, j.namespace, j.job_type, j.schedule_limit,
    r.ready + w.assigned as ready_resources, w.leased as leased_resources, v.waiting as waiting_resources,
    greatest(0, f.ready_in + k.units - t.done - t.delayed - t.held - t.dead - w.completed) as pending,
    greatest(0, f.delayed_in + k.delayed + t.delayed - f.delayed_out) as delayed,
    w.in_flight,
    greatest(0, t.held - f.held_out) as held, greatest(0, t.dead - f.dead_out) as dead,
    w.workers, w.working,
    t.done as total_done, t.retried as total_retried, t.held as total_held, t.dead as total_dead,
    t.crashed as total_crashed,
    j.stale as total_stale, t.claimed as total_claimed, t.lock_tries as total_lock_tries,
    t.lock_refusals as total_lock_refusals
from @extschema@.job j
join @extschema@.flow f on f.job_id = j.id
cross join lateral (
    select count(*) workers, count(*) filter (where o.working) working,
        coalesce(sum(o.done), 0)::bigint done, coalesce(sum(o.retried), 0)::bigint retried,
        coalesce(sum(o.delayed), 0)::bigint delayed,
        coalesce(sum(o.held), 0)::bigint held, coalesce(sum(o.dead), 0)::bigint dead,
        coalesce(sum(o.crashed), 0)::bigint crashed,
        coalesce(sum(o.claimed), 0)::bigint claimed, coalesce(sum(o.lock_tries), 0)::bigint lock_tries,
        coalesce(sum(o.lock_refusals), 0)::bigint lock_refusals,
        coalesce(sum(l.leased), 0)::bigint leased, coalesce(sum(l.in_flight), 0)::bigint in_flight,
        coalesce(sum(l.completed), 0)::bigint completed,
        coalesce(sum(a.assigned), 0)::bigint assigned
    from @extschema@.worker o
    cross join lateral (
        select count(*) leased, sum(ready) in_flight, sum(completed) completed from @extschema@.stripe
            where worker_id = o.id and state = 'leased'
    ) l
    cross join lateral (select count(*) assigned from @extschema@.stripe
        where worker_id = o.id and state = 'assigned') a
    where o.job_id = j.id
) w
cross join lateral (
    select j.done + w.done as done, j.retried + w.retried as retried, j.delayed + w.delayed as delayed,
        j.held + w.held as held,
        j.dead + w.dead as dead, j.crashed + w.crashed as crashed, j.claimed + w.claimed as claimed,
        j.lock_tries + w.lock_tries as lock_tries, j.lock_refusals + w.lock_refusals as lock_refusals
) t
cross join lateral (
    select count(*) ready from (select from @extschema@.stripe where job_id = j.id and state = 'ready' limit 10000) s
) r
cross join lateral (
    select count(*) waiting
        from (select from @extschema@.stripe where job_id = j.id and state = 'waiting' limit 10000) s
) v
cross join lateral (
    select coalesce(sum(units), 0)::bigint units, coalesce(sum(delayed), 0)::bigint delayed
    from (select units, delayed from @extschema@.wake where job_id = j.id order by id limit 10000) s
) k;

-- Nothing here waits for a lock, and what was leased by the dead comes first: a process that was stopped in the middle
-- of a transaction keeps neither its own resource nor anybody else's from being worked on.
create or replace function @extschema@.upkeep(p_job int) returns void language plpgsql as $$
begin
    if @extschema@.needs_upkeep(p_job) and @extschema@.take_turn(p_job, 'upkeep') then
        perform @extschema@.reap(p_job);
        perform @extschema@.wake_due(p_job);
        perform @extschema@.fold_wakes(p_job);
        perform @extschema@.refit(p_job);
        perform @extschema@.end_waits(p_job);
        perform @extschema@.remove_dead(p_job);
    end if;
end
$$;

-- Whether nothing is left to do: held and dead units, and resources that wait for a held one, do not count.
create or replace function @extschema@.is_empty(p_job int) returns boolean language sql stable as $$
    select not exists (select from @extschema@.wake where job_id = p_job)
        and not exists (select from @extschema@.unit where job_id = p_job and state = 'delayed')
        and not exists (select from @extschema@.stripe where job_id = p_job and state = 'ready')
        and not exists (select from @extschema@.stripe where job_id = p_job and state = 'waiting'
            and next_at < 'infinity')
        and not exists (select from @extschema@.worker w
            join @extschema@.stripe s on s.worker_id = w.id and s.state = 'leased' where w.job_id = p_job)
        and not exists (select from @extschema@.worker w
            join @extschema@.stripe s on s.worker_id = w.id and s.state = 'assigned' where w.job_id = p_job)
$$;

-- Removes what has been kept for as long as it should be. True: that was not all, and it is worth a call at once.
create or replace function @extschema@.clean(p_job int) returns boolean language plpgsql as $$
declare
    bound constant int := 2000;
    this_moment constant timestamptz := @extschema@.clock();
    j @extschema@.job;
    dead int;
    n int;
    more boolean;
begin
    if not exists (select from @extschema@.turn where job_id = p_job and kind = 'clean'
        and at < @extschema@.clock() - interval '30 seconds')
        or not @extschema@.take_turn(p_job, 'clean') then
        return false;
    end if;
    select * into j from @extschema@.job where id = p_job;
    more := @extschema@.expire_units(p_job, 'done', j.completed_seconds, bound) = bound;
    dead := @extschema@.expire_units(p_job, 'dead', j.dead_seconds, bound);
    delete from @extschema@.dedup where job_id = p_job and expires_at <= this_moment and dedup_id = any(array(
        select dedup_id from @extschema@.dedup where job_id = p_job and expires_at <= this_moment
        order by expires_at limit bound for update skip locked));
    get diagnostics n = row_count;
    more := more or dead = bound or n = bound;
    more := @extschema@.expire_areas(j, bound) = bound or more;
    perform @extschema@.sweep_orphans(p_job);
    update @extschema@.turn set at = @extschema@.clock() where job_id = p_job and kind = 'clean' and not more;
    if dead > 0 then
        update @extschema@.flow set dead_out = dead_out + dead where job_id = p_job;
    end if;
    if not more then
        perform @extschema@.correct_flow(p_job);
    end if;
    return more;
end
$$;
