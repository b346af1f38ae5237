-- What a worker calls: register, claim, settle, renew, leave. Each is one round trip.

-- A worker's row, or error SJ001: its lease ran out and it was taken for dead. It must stop what it does and register anew.
create or replace function @extschema@.live_worker(p_worker bigint) returns @extschema@.worker language plpgsql as $$
declare
    w @extschema@.worker;
begin
    select * into w from @extschema@.worker where id = p_worker;
    if w.id is null then
        raise exception 'worker % is no longer registered: its lease ran out', p_worker using errcode = 'SJ001';
    end if;
    return w;
end
$$;

create or replace function @extschema@.lease(p_job int) returns interval language sql stable as $$
    select make_interval(secs => lease_seconds) from @extschema@.job where id = p_job
$$;

create or replace function @extschema@.register(p_job int, p_name text) returns bigint language sql as $$
    insert into @extschema@.worker (job_id, name, expires_at)
    values (p_job, p_name, clock_timestamp() + @extschema@.lease(p_job)) returning id
$$;

-- Extends every lease of the worker: they all end with the worker's own row. False: taken for dead.
create or replace function @extschema@.renew(p_worker bigint) returns boolean language plpgsql as $$
begin
    update @extschema@.worker set expires_at = clock_timestamp() + @extschema@.lease(job_id) where id = p_worker;
    return found;
end
$$;

-- Invariant: at most schedule_limit workers of a job have `working`, and only those may claim. A slot is taken under the lock of
-- the job's row, so that two cannot take the last one; when the limit was lowered, the youngest workers are refused.
create or replace function @extschema@.may_work(w @extschema@.worker) returns boolean language plpgsql as $$
declare
    allowed int;
begin
    if w.working then
        select schedule_limit into allowed from @extschema@.job where id = w.job_id;
        return allowed > (select count(*) from @extschema@.worker o where o.job_id = w.job_id and o.working and o.id < w.id);
    end if;
    perform from @extschema@.worker where id = w.id for no key update; -- before the job's row, as the reaper does
    select schedule_limit into allowed from @extschema@.job where id = w.job_id for no key update;
    if allowed <= (select count(*) from @extschema@.worker o where o.job_id = w.job_id and o.working) then
        return false;
    end if;
    update @extschema@.worker set working = true, expires_at = clock_timestamp() + @extschema@.lease(w.job_id) where id = w.id;
    return true;
end
$$;

-- A worker without a lease gives its slot back; one that may lease no more gives back what was assigned to it in any case.
create or replace function @extschema@.rest(p_worker bigint) returns void language sql as $$
    select @extschema@.unassign(p_worker);
    update @extschema@.worker w set wants = 0, lacks = 0, working = exists (
        select from @extschema@.stripe where worker_id = p_worker and state = 'leased')
    where id = p_worker and (working or wants > 0)
$$;

-- Calls idle workers, as many as there are resources for and slots free: NOTIFY striped_<job>, 'how many/of how many'.
create or replace function @extschema@.call_idle(p_job int, p_resources int) returns void language plpgsql as $$
declare
    idle int;
    wanted int;
begin
    select count(*) filter (where not o.working), least(p_resources, j.schedule_limit - count(*) filter (where o.working))
    into idle, wanted
    from @extschema@.job j join @extschema@.worker o on o.job_id = j.id where j.id = p_job group by j.id;
    if idle > 0 and wanted > 0 then
        perform pg_notify('striped_' || p_job, least(idle, wanted) || '/' || idle);
    end if;
end
$$;

-- How many of p_available resources one of p_workers may take: half an even share, so that the last ones spread.
create or replace function @extschema@.fair_share(p_available int, p_workers int) returns int language sql immutable as $$
    select (p_available + 2 * p_workers - 1) / (2 * p_workers)
$$;

-- Counts a job's ready resources, as far as a share of p_resources for each of p_workers depends on it. It looks at 2,000 rows at most, and
-- takes it that there are enough where there are as many.
create or replace function @extschema@.count_ready(p_job int, p_workers int, p_resources int) returns int language sql stable as $$
    select case when count(*) < 2000 then count(*) else 2 * p_workers * p_resources end from (
        select from @extschema@.stripe where job_id = p_job and state = 'ready' limit least(2 * p_workers * p_resources, 2000)
    ) s
$$;

-- The ready resources that a worker may lease by itself: its fair share, and idle workers are called for what it leaves.
create or replace function @extschema@.pick_ready(w @extschema@.worker, p_resources int) returns text[] language plpgsql as $$
declare
    workers int := (select count(*) from @extschema@.worker o where o.job_id = w.job_id);
    available int := @extschema@.count_ready(w.job_id, workers, p_resources);
    share int := least(p_resources, @extschema@.fair_share(available, workers));
    suspicious boolean;
begin
    if available > share then
        perform @extschema@.call_idle(w.job_id, available - share);
    end if;
    select s.crashes > 0 into suspicious from @extschema@.stripe s
    where s.job_id = w.job_id and s.state = 'ready' order by s.rank limit 1;
    return array(
        select r.resource from @extschema@.stripe r
        where r.job_id = w.job_id and r.state = 'ready' and (r.crashes > 0) = suspicious
        order by r.rank limit case when suspicious then 1 else share end for update skip locked);
end
$$;

-- Leases up to p_resources ready resources to the worker and hands out up to p_units units of each, and one more where there are more
-- (it is not part of the lease: its presence says so). A resource that workers died with comes alone, with one unit.
-- A row without ids is a resource that turned out to have nothing to do: settle it as finished.
-- The units are read by a second statement on purpose: in one statement they would come from the snapshot taken before the
-- resources were locked, and units that another worker has just finished would be handed out again.
create or replace function @extschema@.claim(p_worker bigint, p_resources int, p_units int)
returns table (resource text, fence bigint, suspect boolean, ids bigint[], attempts int[], crashes int[], payloads text[])
language plpgsql as $$
#variable_conflict use_column
declare
    w @extschema@.worker := @extschema@.live_worker(p_worker);
    j @extschema@.job;
    picked text[];
    suspicious boolean;
    resources text[];
    fences bigint[];
begin
    if not @extschema@.may_work(w) then
        perform @extschema@.rest(p_worker);
        return;
    end if;
    select * into j from @extschema@.job where id = w.job_id;
    if j.delegated then
        picked := @extschema@.pick_assigned(w, p_resources);
    else
        picked := @extschema@.pick_ready(w, p_resources);
    end if;
    with leased as (
        update @extschema@.stripe s set state = 'leased', worker_id = p_worker, woken = false, leased_at = clock_timestamp(),
            fence = nextval('@extschema@.fence')
        where s.job_id = w.job_id and s.resource = any(picked)
        returning s.resource, s.fence, s.crashes
    )
    select array_agg(l.resource), array_agg(l.fence), max(l.crashes) > 0 into resources, fences, suspicious from leased l;
    if resources is null then
        if not @extschema@.waits_for_delegator(p_worker) then
            perform @extschema@.rest(p_worker);
        end if;
        return;
    end if;
    if suspicious then
        p_units := 1;
    end if;
    if j.on_failure = 'Block' then
        return query select * from @extschema@.hand_out_in_order(w.job_id, resources, fences, suspicious, p_units);
        return;
    end if;
    return query
    select l.resource, l.fence, suspicious, u.ids, u.attempts, u.crashes, u.payloads
    from unnest(resources, fences) l(resource, fence)
    cross join lateral (
        select array_agg(h.id), array_agg(h.attempts::int), array_agg(h.crashes::int), array_agg(h.payload::text)
        from (
            select id, attempts, crashes, payload from @extschema@.unit
            where job_id = w.job_id and resource = l.resource and state = 'ready' order by id limit p_units + 1
        ) h
    ) u(ids, attempts, crashes, payloads);
end
$$;
