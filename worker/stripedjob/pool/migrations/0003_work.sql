-- What a worker calls: register, claim, settle, renew, leave. Each is one round trip.

-- A worker's row, or error SJ001: its lease ran out and it was taken for dead. It must stop what it does and register anew.
create function @extschema@.live_worker(p_worker bigint) returns @extschema@.worker language plpgsql as $$
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

create function @extschema@.lease(p_job int) returns interval language sql stable as $$
    select make_interval(secs => lease_seconds) from @extschema@.job where id = p_job
$$;

create function @extschema@.register(p_job int, p_name text) returns bigint language sql as $$
    insert into @extschema@.worker (job_id, name, expires_at)
    values (p_job, p_name, clock_timestamp() + @extschema@.lease(p_job)) returning id
$$;

-- Extends every lease of the worker: they all end with the worker's own row. False: taken for dead.
create function @extschema@.renew(p_worker bigint) returns boolean language plpgsql as $$
begin
    update @extschema@.worker set expires_at = clock_timestamp() + @extschema@.lease(job_id) where id = p_worker;
    return found;
end
$$;

-- Invariant: at most schedule_limit workers of a job have `working`, and only those may claim. A slot is taken under the lock of
-- the job's row, so that two cannot take the last one; when the limit was lowered, the youngest workers are refused.
create function @extschema@.may_work(w @extschema@.worker) returns boolean language plpgsql as $$
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

-- A worker without a lease gives its slot back.
create function @extschema@.rest(p_worker bigint) returns void language sql as $$
    update @extschema@.worker set working = false where id = p_worker and working
        and not exists (select from @extschema@.stripe where worker_id = p_worker and state = 'leased')
$$;

-- How many resources a claim may take, at most p_resources: all where plenty are ready, and half an even share among the workers
-- where few are, so that the last ones spread. Wakes idle workers (NOTIFY striped_<job>, 'how many/of how many') for what it leaves.
create function @extschema@.fair_share(w @extschema@.worker, p_resources int) returns int language plpgsql as $$
declare
    bound constant int := 2000; -- most rows that the count looks at
    workers int;
    idle int;
    available int;
    share int;
    wanted int;
begin
    select count(*), count(*) filter (where not o.working and o.id <> w.id) into workers, idle
    from @extschema@.worker o where o.job_id = w.job_id;
    select count(*) into available from (
        select from @extschema@.stripe where job_id = w.job_id and state = 'ready' limit least(2 * workers * p_resources + 1, bound)
    ) s;
    share := case when available >= bound then p_resources
        else least(p_resources, (available + 2 * workers - 1) / (2 * workers)) end;
    if idle > 0 and available > share then
        select least(idle, available - share, j.schedule_limit - (workers - idle)) into wanted
        from @extschema@.job j where j.id = w.job_id;
        if wanted > 0 then
            perform pg_notify('striped_' || w.job_id, wanted || '/' || idle);
        end if;
    end if;
    return share;
end
$$;

-- Leases up to p_resources ready resources to the worker and hands out up to p_units units of each, and one more where there are more
-- (it is not part of the lease: its presence says so). A resource that workers died with comes alone, with one unit.
-- A row without ids is a resource that turned out to have nothing to do: settle it as finished.
-- The units are read by a second statement on purpose: in one statement they would come from the snapshot taken before the
-- resources were locked, and units that another worker has just finished would be handed out again.
create function @extschema@.claim(p_worker bigint, p_resources int, p_units int)
returns table (resource text, fence bigint, suspect boolean, ids bigint[], attempts int[], crashes int[], payloads text[])
language plpgsql as $$
#variable_conflict use_column
declare
    w @extschema@.worker := @extschema@.live_worker(p_worker);
    share int;
    suspicious boolean;
    resources text[];
    fences bigint[];
begin
    if not @extschema@.may_work(w) then
        perform @extschema@.rest(p_worker);
        return;
    end if;
    share := @extschema@.fair_share(w, p_resources);
    select s.crashes > 0 into suspicious from @extschema@.stripe s
    where s.job_id = w.job_id and s.state = 'ready' order by s.rank limit 1;
    if suspicious then
        share := 1;
        p_units := 1;
    end if;
    with leased as (
        update @extschema@.stripe s set state = 'leased', worker_id = p_worker, woken = false, leased_at = clock_timestamp(),
            fence = nextval('@extschema@.fence')
        where s.job_id = w.job_id and s.resource = any(array(
            select r.resource from @extschema@.stripe r
            where r.job_id = w.job_id and r.state = 'ready' and (r.crashes > 0) = suspicious
            order by r.rank limit share for update skip locked))
        returning s.resource, s.fence
    )
    select array_agg(l.resource), array_agg(l.fence) into resources, fences from leased l;
    if resources is null then
        perform @extschema@.rest(p_worker);
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
