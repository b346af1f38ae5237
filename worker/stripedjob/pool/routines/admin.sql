-- What people and the operator call.

-- Makes the job or updates it in place; an older generation never overwrites a newer one. Returns its id. All idle workers look at once
-- whether they may work now.
create or replace function @extschema@.apply_job(
    p_namespace text, p_job_type text, p_generation bigint, p_schedule_limit int, p_importance int, p_lease_seconds float8,
    p_crash_threshold int, p_on_failure @extschema@.on_failure, p_completed_seconds int, p_dead_seconds int,
    p_delegated boolean default false, p_outstanding_max int default null, p_starts_max int default null,
    p_period_seconds int default null, p_area_label text default null, p_deduplicate_content boolean default false
) returns int language plpgsql as $$
#variable_conflict use_column
declare
    found_id int;
    before @extschema@.job;
begin
    select * into before from @extschema@.job where namespace = p_namespace and job_type = p_job_type;
    insert into @extschema@.job as j (namespace, job_type, generation, schedule_limit, importance, lease_seconds,
        crash_threshold, on_failure, completed_seconds, dead_seconds,
        delegated, outstanding_max, starts_max, period_seconds, area_label, deduplicate_content)
    values (p_namespace, p_job_type, p_generation, p_schedule_limit, p_importance, p_lease_seconds,
        p_crash_threshold, p_on_failure, p_completed_seconds, p_dead_seconds,
        p_delegated, p_outstanding_max, p_starts_max, p_period_seconds, p_area_label, p_deduplicate_content)
    on conflict (namespace, job_type) do update set generation = excluded.generation, schedule_limit = excluded.schedule_limit,
        importance = excluded.importance, lease_seconds = excluded.lease_seconds, crash_threshold = excluded.crash_threshold,
        on_failure = excluded.on_failure, completed_seconds = excluded.completed_seconds, dead_seconds = excluded.dead_seconds,
        delegated = excluded.delegated, outstanding_max = excluded.outstanding_max, starts_max = excluded.starts_max,
        period_seconds = excluded.period_seconds, area_label = excluded.area_label,
        deduplicate_content = excluded.deduplicate_content
        where j.generation <= excluded.generation;
    select id into found_id from @extschema@.job where namespace = p_namespace and job_type = p_job_type;
    if (before.delegated, before.outstanding_max is null, before.area_label)
        is distinct from (p_delegated, p_outstanding_max is null, p_area_label) then
        perform @extschema@.fit_stripes(found_id);
    end if;
    if before.on_failure is distinct from p_on_failure then
        perform @extschema@.fit_units(found_id);
    end if;
    perform pg_notify('striped_' || found_id, '1/1');
    return found_id;
end
$$;

-- Brings the resources of a job whose strategy has changed to the new one: nothing stays assigned without a delegator, and areas are as
-- the throttle counts them.
create or replace function @extschema@.fit_stripes(p_job int) returns void language plpgsql as $$
declare
    j @extschema@.job;
begin
    select * into j from @extschema@.job where id = p_job;
    if not j.delegated then
        perform @extschema@.unassign(id) from @extschema@.worker where job_id = p_job;
    end if;
    update @extschema@.stripe s set area = case when j.outstanding_max is not null then @extschema@.area_of(j, s.resource) end
    from (select resource from @extschema@.stripe where job_id = p_job order by resource for update) o
    where s.job_id = p_job and s.resource = o.resource;
end
$$;

-- One row of numbers for each job; the totals are since the job was made.
create or replace view @extschema@.job_status as
select j.id, j.namespace, j.job_type, j.schedule_limit,
    s.ready_resources, s.leased_resources, s.waiting_resources,
    s.pending + coalesce(k.units, 0) as pending, coalesce(u.delayed, 0) as delayed, s.in_flight,
    coalesce(u.held, 0) as held, coalesce(u.dead, 0) as dead,
    w.workers, w.working,
    j.done + w.done as total_done, j.retried + w.retried as total_retried, j.held + w.held as total_held,
    j.dead + w.dead as total_dead, j.crashed + w.crashed as total_crashed, j.stale as total_stale,
    j.claimed + w.claimed as total_claimed, j.lock_tries + w.lock_tries as total_lock_tries,
    j.lock_refusals + w.lock_refusals as total_lock_refusals
from @extschema@.job j
cross join lateral (
    select count(*) filter (where state in ('ready', 'assigned')) ready_resources, count(*) filter (where state = 'leased') leased_resources,
        count(*) filter (where state = 'waiting') waiting_resources,
        coalesce(sum(ready), 0)::bigint as pending, coalesce(sum(ready) filter (where state = 'leased'), 0) as in_flight
    from @extschema@.stripe where job_id = j.id
) s
cross join lateral (
    select count(*) workers, count(*) filter (where working) working, coalesce(sum(done), 0)::bigint done, coalesce(sum(retried), 0)::bigint retried,
        coalesce(sum(held), 0)::bigint held, coalesce(sum(dead), 0)::bigint dead, coalesce(sum(crashed), 0)::bigint crashed, coalesce(sum(claimed), 0)::bigint claimed,
        coalesce(sum(lock_tries), 0)::bigint lock_tries, coalesce(sum(lock_refusals), 0)::bigint lock_refusals
    from @extschema@.worker where job_id = j.id
) w
left join lateral (select sum(units) units from @extschema@.wake where job_id = j.id) k on true
left join lateral (
    select count(*) filter (where state = 'delayed') delayed, count(*) filter (where state = 'held') held,
        count(*) filter (where state = 'dead') dead
    from @extschema@.unit where job_id = j.id and state in ('delayed', 'held', 'dead')
) u on true;

-- Makes held or dead units ready again, with their attempts and crashes at 0: all of the job, of one resource, or given ids.
-- Returns how many. A resource that was waiting for one of them goes on.
create or replace function @extschema@.revive(p_job int, p_state @extschema@.unit_state, p_resource text, p_ids bigint[]) returns int
language plpgsql as $$
declare
    n int;
begin
    with revived as (
        update @extschema@.unit set state = 'ready', attempts = 0, crashes = 0, finished_at = null, reason = null
        where job_id = p_job and state = p_state and p_state in ('held', 'dead')
            and (p_resource is null or resource = p_resource) and (p_ids is null or id = any(p_ids))
        returning resource, importance
    ), woken as (
        insert into @extschema@.wake (job_id, resource, units, importance)
        select p_job, resource, count(*), max(importance) from revived group by resource returning units
    )
    select coalesce(sum(units), 0)::bigint into n from woken;
    perform @extschema@.end_holds(p_job);
    return n;
end
$$;

-- Removes held or dead units for good. Returns how many.
create or replace function @extschema@.purge(p_job int, p_state @extschema@.unit_state, p_resource text, p_ids bigint[]) returns int
language plpgsql as $$
declare
    n int;
begin
    delete from @extschema@.unit where job_id = p_job and state = p_state and p_state in ('held', 'dead')
        and (p_resource is null or resource = p_resource) and (p_ids is null or id = any(p_ids));
    get diagnostics n = row_count;
    perform @extschema@.end_holds(p_job);
    return n;
end
$$;

-- A resource that waits for a held unit goes on when it has none any more; one that waits for a barrier, where a unit before it was revived.
create or replace function @extschema@.end_holds(p_job int) returns void language sql as $$
    update @extschema@.stripe set next_at = clock_timestamp() where job_id = p_job and resource = any(array(
        select resource from @extschema@.stripe s where job_id = p_job and state = 'waiting' and case when next_at = 'infinity'
            then not exists (select from @extschema@.unit u where u.job_id = p_job and u.state = 'held' and u.resource = s.resource)
            else @extschema@.has_unit_before_barrier(s) end
        order by resource for update))
$$;

-- Removes a job's units, leases and wakes. Its workers go on with nothing: what they hold is refused as stale. Returns how many units.
create or replace function @extschema@.clear(p_job int) returns bigint language plpgsql as $$
declare
    n bigint;
begin
    perform from @extschema@.stripe where job_id = p_job order by resource for update;
    with gone as (delete from @extschema@.stripe where job_id = p_job returning completed)
    update @extschema@.job set done = done + (select coalesce(sum(completed), 0) from gone) where id = p_job;
    delete from @extschema@.wake where job_id = p_job;
    delete from @extschema@.dedup where job_id = p_job;
    delete from @extschema@.unit where job_id = p_job;
    get diagnostics n = row_count;
    return n;
end
$$;

-- Whether nothing is left to do: held and dead units, and resources that wait for a held one, do not count.
create or replace function @extschema@.is_empty(p_job int) returns boolean language sql stable as $$
    select not exists (select from @extschema@.wake where job_id = p_job)
        and not exists (select from @extschema@.unit where job_id = p_job and state = 'delayed')
        and not exists (select from @extschema@.stripe where job_id = p_job and next_at is distinct from 'infinity')
$$;
