-- What keeps a pool moving. Any worker, or the operator, runs it as often as it likes; one at a time does it, the others go on.

create or replace function @extschema@.try_upkeep_lock(p_job int) returns boolean language sql as $$
    select pg_try_advisory_xact_lock(hashtext('@extschema@ upkeep'), p_job)
$$;

-- Delayed units whose time has come are ready.
create or replace function @extschema@.wake_due(p_job int) returns void language sql as $$
    with due as (
        update @extschema@.unit set state = 'ready' where id = any(array(
            select id from @extschema@.unit where job_id = p_job and state = 'delayed' and due_at <= clock_timestamp()
            order by due_at limit 1000 for update skip locked))
        returning resource, importance
    )
    insert into @extschema@.wake (job_id, resource, units, importance)
    select p_job, resource, count(*), max(importance) from due group by resource
$$;

-- The area of a resource, for a throttle: the value of the job's label in the payload of its first ready unit; all of one job is one area
-- where there is no label.
create or replace function @extschema@.area_of(j @extschema@.job, p_resource text) returns text language sql stable as $$
    select case when j.area_label is null then '' else coalesce((
        select payload ->> j.area_label from @extschema@.unit
        where job_id = j.id and resource = p_resource and state = 'ready' order by id limit 1), '') end
$$;

-- Folds wakes into stripes. Invariant: no wake-up is lost. A wake is removed in the transaction that makes its stripe ready, or
-- marks it as woken where it is leased, so that the end of the lease makes it ready. Stripes are locked in the order of their names,
-- as in settle, and before anything else of upkeep holds one, so that the two cannot deadlock.
create or replace function @extschema@.fold_wakes(p_job int) returns void language sql as $$
    with taken as (
        delete from @extschema@.wake where id = any(array(
            select id from @extschema@.wake where job_id = p_job order by id limit 5000))
        returning resource, units, importance
    )
    insert into @extschema@.stripe as s (job_id, resource, ready, importance, rank, area)
    select p_job, t.resource, t.units, t.importance, clock_timestamp() - t.importance * interval '1 minute',
        case when j.outstanding_max is not null then @extschema@.area_of(j, t.resource) end
    from (select resource, sum(units) units, max(importance) importance from taken group by resource) t
    join @extschema@.job j on j.id = p_job
    order by t.resource
    on conflict (job_id, resource) do update set
        ready = s.ready + excluded.ready, woken = true, importance = greatest(s.importance, excluded.importance),
        rank = least(s.rank, excluded.rank),
        next_at = case when s.state = 'waiting' and @extschema@.has_unit_before_barrier(s) then clock_timestamp() else s.next_at end
$$;

-- Resources whose wait is over are ready, and since when they are is their rank: waiting is no claim to go first.
create or replace function @extschema@.end_waits(p_job int) returns void language sql as $$
    update @extschema@.stripe set state = 'ready', next_at = null, rank = greatest(rank, next_at - importance * interval '1 minute')
    where job_id = p_job and resource = any(array(
        select resource from @extschema@.stripe where job_id = p_job and state = 'waiting' and next_at <= clock_timestamp()
        order by next_at limit 1000 for update skip locked))
$$;

-- Counts a crash of the unit that stood at the head of a resource when its worker died, where there is no doubt that it was that one:
-- the resource was leased alone, or has no other unit ready. Holds it at the job's threshold.
create or replace function @extschema@.blame_head(j @extschema@.job, p_worker bigint, p_resource text, p_alone boolean) returns void
language plpgsql as $$
declare
    blamed @extschema@.unit;
begin
    with first as (
        select id from @extschema@.unit where job_id = j.id and resource = p_resource and state = 'ready' order by id limit 2
    )
    update @extschema@.unit u set crashes = u.crashes + 1,
        state = case when u.crashes + 1 >= j.crash_threshold then 'held' else 'ready' end::@extschema@.unit_state,
        reason = format('its worker died while it was worked on, %s times', u.crashes + 1)
    where u.id = (select min(id) from first having p_alone or count(*) = 1) returning u.* into blamed;
    if blamed.id is null then
        return;
    end if;
    update @extschema@.worker w set crashed = w.crashed + 1, held = w.held + (blamed.state = 'held')::int where w.id = p_worker;
    if blamed.state = 'held' and j.on_failure = 'Block' then
        update @extschema@.stripe set state = 'waiting', next_at = 'infinity' where job_id = j.id and resource = p_resource;
    end if;
end
$$;

-- Takes back the leases of workers whose time ran out. Where a worker died with one resource, its unit may be to blame; where it held
-- more, the culprit is not known, and each of them is leased alone from then on, one unit at a time, until it has been worked.
-- A lease that its worker is settling at this moment is locked, and left for the next time.
create or replace function @extschema@.reap(p_job int) returns void language plpgsql as $$
declare
    j @extschema@.job;
    w record;
    lease record;
begin
    for w in
        select id, (select count(*) from @extschema@.stripe s where s.worker_id = o.id and s.state = 'leased') leases
        from @extschema@.worker o where job_id = p_job and expires_at < clock_timestamp()
        order by id limit 16 for update skip locked
    loop
        select * into j from @extschema@.job where id = p_job;
        for lease in
            update @extschema@.stripe s set state = 'ready', worker_id = null, crashes = s.crashes + 1, rank = clock_timestamp()
            where s.job_id = p_job and s.resource = any(array(
                select resource from @extschema@.stripe where worker_id = w.id and state = 'leased' for update skip locked))
            returning s.resource, s.crashes > 1 as alone
        loop
            if w.leases = 1 then
                perform @extschema@.blame_head(j, w.id, lease.resource, lease.alone);
            end if;
        end loop;
        perform @extschema@.unassign(w.id);
        if not exists (select from @extschema@.stripe where worker_id = w.id and state in ('assigned', 'leased')) then
            perform @extschema@.fold_worker(w.id);
        end if;
    end loop;
end
$$;

-- Removes what has been kept for as long as it should be: at most every 30 s, at most 10,000 rows of a kind at once. Where that was not
-- all, the next upkeep goes on with it.
create or replace function @extschema@.clean(p_job int) returns void language plpgsql as $$
declare
    j @extschema@.job;
    bound constant int := 10000;
    units int;
    ids int;
begin
    update @extschema@.job set cleaned_at = clock_timestamp()
    where id = p_job and cleaned_at < clock_timestamp() - interval '30 seconds' returning * into j;
    if j.id is null then
        return;
    end if;
    delete from @extschema@.unit where id = any(array(
        select id from @extschema@.unit where job_id = p_job and finished_at is not null and finished_at <= clock_timestamp()
            - make_interval(secs => case state when 'done' then j.completed_seconds else j.dead_seconds end)
        order by finished_at limit bound));
    get diagnostics units = row_count;
    delete from @extschema@.dedup where (job_id, dedup_id) in (
        select job_id, dedup_id from @extschema@.dedup where job_id = p_job and expires_at <= clock_timestamp() limit bound);
    get diagnostics ids = row_count;
    if units = bound or ids = bound then
        update @extschema@.job set cleaned_at = '-infinity' where id = p_job;
    end if;
end
$$;

create or replace function @extschema@.upkeep(p_job int) returns void language plpgsql as $$
begin
    if @extschema@.try_upkeep_lock(p_job) then
        perform @extschema@.wake_due(p_job);
        perform @extschema@.fold_wakes(p_job);
        perform @extschema@.end_waits(p_job);
        perform @extschema@.reap(p_job);
        perform @extschema@.clean(p_job);
    end if;
end
$$;

-- What an idle worker asks: is there something for it to claim, and if not, how long to sleep? The more workers are idle, the longer each
-- sleeps, so that all of them together ask five times a second.
create or replace function @extschema@.poll(p_worker bigint) returns table (claimable boolean, sleep_seconds float8) language plpgsql as $$
declare
    w @extschema@.worker := @extschema@.live_worker(p_worker);
    j @extschema@.job;
    idle int;
begin
    perform @extschema@.upkeep(w.job_id);
    if not @extschema@.waits_for_delegator(p_worker) then
        perform @extschema@.rest(p_worker);
    end if;
    select * into w from @extschema@.worker where id = p_worker;
    select * into j from @extschema@.job where id = w.job_id;
    select count(*) filter (where not o.working or o.lacks > 0) into idle from @extschema@.worker o where o.job_id = w.job_id;
    sleep_seconds := greatest(1, idle) * case when j.delegated then 1 else 0.2 end; -- a delegator calls those who are to come
    update @extschema@.worker set expires_at = greatest(
        expires_at, clock_timestamp() + greatest(@extschema@.lease(w.job_id), make_interval(secs => 3 * sleep_seconds)))
    where id = p_worker;
    claimable := exists (select from @extschema@.stripe where worker_id = p_worker and state = 'assigned')
        or w.lacks = 0 and exists (select from @extschema@.stripe where job_id = w.job_id and state = 'ready')
            and j.schedule_limit > (select count(*) from @extschema@.worker o where o.job_id = w.job_id and o.working and o.id <> w.id);
    return next;
end
$$;
