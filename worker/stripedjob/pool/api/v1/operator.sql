-- What the operator and the supervisor of one machine call: jobs as they are wanted, and upkeep for jobs without
-- workers.

-- Makes the job or updates it in place; an older generation never overwrites a newer one. Returns its id. A job that is
-- paused stays so, and a breaker that is open, unless there is to be none. All idle
-- workers look at once whether they may work now. The job's row is locked before anything is read of it: the delegator
-- shares its key while it assigns.
create or replace function @extschema@.apply_job(
    p_namespace text, p_job_type text, p_generation bigint, p_schedule_limit int, p_importance int,
    p_lease_seconds float8,
    p_crash_threshold int, p_on_failure @extschema@.on_failure, p_completed_seconds int, p_dead_seconds int,
    p_delegated boolean default false, p_outstanding_max int default null, p_starts_max int default null,
    p_period_seconds int default null, p_area_label text default null, p_deduplicate_content boolean default false,
    p_breaker_failures int default 0, p_backoff_seconds float8 default 5, p_backoff_seconds_max float8 default 600,
    p_history_seconds int default 0
) returns int language plpgsql as $$
#variable_conflict use_column
declare
    before @extschema@.job;
    after @extschema@.job;
begin
    perform @extschema@.check_name(p_namespace, p_job_type, 'operator');
    perform @extschema@.await_turns(id, '{refit}') from @extschema@.job
        where namespace = p_namespace and job_type = p_job_type;
    select * into before from @extschema@.job where namespace = p_namespace and job_type = p_job_type for update;
    insert into @extschema@.job as j (namespace, job_type, generation, schedule_limit, importance, lease_seconds,
        crash_threshold, on_failure, completed_seconds, dead_seconds,
        delegated, outstanding_max, starts_max, period_seconds, area_label, deduplicate_content,
        breaker_failures, backoff_seconds, backoff_seconds_max, history_seconds)
    values (p_namespace, p_job_type, p_generation, p_schedule_limit, p_importance, p_lease_seconds,
        p_crash_threshold, p_on_failure, p_completed_seconds, p_dead_seconds,
        p_delegated, p_outstanding_max, p_starts_max, p_period_seconds, p_area_label, p_deduplicate_content,
        p_breaker_failures, p_backoff_seconds, p_backoff_seconds_max, p_history_seconds)
    on conflict (namespace, job_type) do update set generation = excluded.generation,
        schedule_limit = case when j.paused_at is null then excluded.schedule_limit else 0 end,
        limit_unpaused = case when j.paused_at is not null then excluded.schedule_limit end,
        importance = excluded.importance, lease_seconds = excluded.lease_seconds,
        crash_threshold = excluded.crash_threshold,
        on_failure = excluded.on_failure, completed_seconds = excluded.completed_seconds,
        dead_seconds = excluded.dead_seconds,
        delegated = excluded.delegated, outstanding_max = excluded.outstanding_max, starts_max = excluded.starts_max,
        period_seconds = excluded.period_seconds, area_label = excluded.area_label,
        deduplicate_content = excluded.deduplicate_content, breaker_failures = excluded.breaker_failures,
        backoff_seconds = excluded.backoff_seconds, backoff_seconds_max = excluded.backoff_seconds_max,
        history_seconds = excluded.history_seconds
        where j.generation <= excluded.generation;
    select * into after from @extschema@.job where namespace = p_namespace and job_type = p_job_type;
    if before.id is null then
        insert into @extschema@.flow (job_id) values (after.id) on conflict do nothing;
        insert into @extschema@.turn (job_id, kind, at, detail)
        select after.id, kind,
            case kind when 'clean' then @extschema@.clock() when 'refit' then 'infinity' else '-infinity' end, null
        from unnest('{upkeep,clean,schedule,refit}'::text[]) kind on conflict do nothing;
    elsif (before.outstanding_max is null, before.area_label, before.on_failure = 'Block')
        is distinct from (after.outstanding_max is null, after.area_label, after.on_failure = 'Block') then
        update @extschema@.turn set at = '-infinity', detail = null where job_id = after.id and kind = 'refit';
    end if;
    if after.breaker_failures = 0 and after.alike > 0 then
        perform @extschema@.close_breaker(after.id);
    end if;
    if before.delegated and not after.delegated then
        perform @extschema@.unassign(id) from @extschema@.worker where job_id = after.id;
    end if;
    perform pg_notify(@extschema@.channel(after.id::text), '*'), @extschema@.notify_delegator(after.id);
    return after.id;
end
$$;

-- Removes a job's units, leases and wakes, the pauses of its resources and its history, at most p_bound of each.
-- Returns how many units, or null when nothing was left. Its workers go on with nothing: what they hold is refused as
-- stale.
create or replace function @extschema@.clear(p_job int, p_bound int) returns bigint language plpgsql as $$
declare
    n bigint;
    places tid[];
    stripes bigint;
    completed_units bigint;
    events bigint;
    wakes @extschema@.wake;
    gone_units record;
begin
    perform @extschema@.check_job(p_job, 'operator');
    perform @extschema@.await_turns(p_job, '{clean,upkeep}');
    places := array(
        select ctid from @extschema@.stripe where job_id = p_job order by resource limit p_bound for update);
    with gone as (
        delete from @extschema@.stripe where ctid = any(places) returning completed
    )
    select count(*), sum(completed) into stripes, completed_units from gone;
    with gone as (
        delete from @extschema@.wake
            where ctid = any(array(select ctid from @extschema@.wake where job_id = p_job order by id limit p_bound))
        returning units, delayed
    )
    select coalesce(sum(units), 0), coalesce(sum(delayed), 0) into wakes.units, wakes.delayed from gone;
    delete from @extschema@.pause k where job_id = p_job
        and (select s.state from @extschema@.stripe s where s.job_id = p_job and s.resource = k.resource) is null;
    places := array(
        select ctid from @extschema@.dedup where job_id = p_job and expires_at > '-infinity'
        order by expires_at limit p_bound for update);
    delete from @extschema@.dedup where ctid = any(places);
    with gone as (
        delete from @extschema@.unit where id = any(array(select id from @extschema@.units_of(p_job, p_bound) id))
            returning state
    )
    select count(*) all_of_them, count(*) filter (where state = 'ready') ready,
        count(*) filter (where state = 'delayed') delayed,
        count(*) filter (where state = 'held') held, count(*) filter (where state = 'dead') dead
    into gone_units from gone;
    update @extschema@.flow set ready_in = ready_in + wakes.units - gone_units.ready,
        delayed_in = delayed_in + wakes.delayed,
        delayed_out = delayed_out + gone_units.delayed, held_out = held_out + gone_units.held,
        dead_out = dead_out + gone_units.dead
    where job_id = p_job;
    events := @extschema@.clear_history(p_job, p_bound);
    n := gone_units.all_of_them;
    update @extschema@.job set done = done + completed_units where id = p_job and completed_units > 0;
    return case when n > 0 or stripes > 0 or events > 0 or exists (select from @extschema@.wake where job_id = p_job)
        or exists (select from @extschema@.dedup where job_id = p_job) then n end;
end
$$;

-- The numbers of these jobs, in one call for all; upkeep comes first for those that have something to be kept up and no
-- live worker to do it.
create or replace function @extschema@.tend(p_jobs int[]) returns setof @extschema@.job_status language plpgsql as $$
begin
    perform @extschema@.check_job(id, 'operator') from unnest(p_jobs) id;
    perform @extschema@.keep(j.id) from @extschema@.job j
    where j.id = any(p_jobs)
        and not exists (select from @extschema@.worker w where w.job_id = j.id and w.expires_at >= @extschema@.clock());
    return query select * from @extschema@.job_status s where s.id = any(p_jobs) order by s.id;
end
$$;

-- What is measured of these jobs: for how many seconds the oldest unit in line waits for a worker, null where none
-- does; and how many units waited and ran how long since the job was made, as counts by bucket and sums in seconds.
create or replace function @extschema@.measures(p_jobs int[]) returns table (
    id int, oldest_seconds float8, waits bigint[], wait_seconds float8, runs bigint[], run_seconds float8
) language plpgsql stable as $$
#variable_conflict use_column
begin
    perform @extschema@.check_job(one, 'operator') from unnest(p_jobs) one;
    return query select j.id,
        case when o.at is not null then greatest(0, date_part('epoch', @extschema@.clock() - o.at)) end,
        coalesce(t.waits, '{}'), coalesce(t.wait_seconds, 0), coalesce(t.runs, '{}'), coalesce(t.run_seconds, 0)
    from @extschema@.job j cross join lateral (select @extschema@.page_oldest(j.id) as at) o
    left join @extschema@.times t on t.job_id = j.id and t.minute = '-infinity'
    where j.id = any(p_jobs) order by j.id;
end
$$;

-- Ends the locks of a job in the backend Postgres, whoever holds them, at most p_bound of them. Returns how many.
create or replace function @extschema@.flush_locks(p_namespace text, p_job_type text, p_bound int) returns bigint
    language plpgsql as $$
declare
    places tid[];
    n bigint;
begin
    perform @extschema@.check_name(p_namespace, p_job_type, 'operator');
    places := array(
        select ctid from @extschema@.lock where namespace = p_namespace and job_type = p_job_type
        order by resource limit p_bound for update);
    delete from @extschema@.lock where ctid = any(places);
    get diagnostics n = row_count;
    return n;
end
$$;
