-- What becomes of the leases of workers whose time ran out. It is a part of upkeep.

-- Counts a crash of the unit that stood at the head of a resource when its worker died, where there is no doubt that it
-- was that one: the resource was leased alone, or has no other unit ready. Holds it at the job's threshold.
create or replace function @extschema@.blame_head(j @extschema@.job, p_worker bigint, p_resource text,
    p_alone boolean) returns void
language plpgsql as $$
declare
    blamed @extschema@.unit;
begin
    with first as (
        select id from @extschema@.unit
        where job_id = j.id and resource >= p_resource and resource <= p_resource and state = 'ready'
        order by resource, id limit 2
    )
    update @extschema@.unit u set crashes = u.crashes + 1,
        state = case when u.crashes + 1 >= j.crash_threshold then 'held' else 'ready' end::@extschema@.unit_state,
        reason = format('its worker died while it was worked on, %s times', u.crashes + 1)
    where u.id = (select min(id) from first having p_alone or count(*) = 1) returning u.* into blamed;
    if blamed.id is null then
        return;
    end if;
    update @extschema@.worker w set crashed = w.crashed + 1, held = w.held + (blamed.state = 'held')::int
        where w.id = p_worker;
    insert into @extschema@.history (slot, at, job_id, event, resource, unit, attempt, who, state, reason)
    select (select slot from @extschema@.history_ring), @extschema@.clock(), j.id, 'crashed', p_resource, blamed.id,
        blamed.crashes, (select name from @extschema@.worker where id = p_worker), blamed.state, blamed.reason
    where j.history_seconds > 0;
    if blamed.state = 'held' and j.on_failure = 'Block' then
        update @extschema@.stripe set state = 'waiting', next_at = 'infinity'
            where job_id = j.id and resource = p_resource;
    end if;
end
$$;

-- Ends the sessions in which the handlers of a worker have their transactions, once its leases have run out: the locks
-- of a process that was stopped, or whose network has gone, would keep the next holder of its resources waiting. A
-- worker chooses the name: only sessions of the role that it registered with are ended, and only where the pool's owner
-- may do so.
create or replace function @extschema@.end_sessions(p_backend_name text, p_role oid) returns void language plpgsql as $$
begin
    perform pg_terminate_backend(pid) from pg_stat_activity
    where application_name = p_backend_name and usesysid = p_role and datname = current_database()
        and pid <> pg_backend_pid();
exception when insufficient_privilege then
    null;
end
$$;

-- Takes back the leases of workers whose time ran out. Where a worker died with one resource, its unit may be to blame;
-- where it held more, the culprit is not known, and each of them is leased alone from then on, one unit at a time,
-- until it has been worked. A worker that is claiming, and a lease that its worker is settling at this moment, is
-- locked, and left for the next time.
create or replace function @extschema@.reap(p_job int) returns void language plpgsql as $$
declare
    j @extschema@.job;
    w record;
    places tid[];
    lease record;
begin
    for w in
        select id, name, backend_name, role,
            (select count(*) from @extschema@.stripe s where s.worker_id = o.id and s.state = 'leased') leases
        from @extschema@.worker o where job_id = p_job and expires_at < @extschema@.clock()
        order by id limit 16 for update skip locked
    loop
        select * into j from @extschema@.job where id = p_job;
        if w.leases > 0 and w.backend_name is not null then
            perform @extschema@.end_sessions(w.backend_name, w.role);
        end if;
        places := array(select ctid from @extschema@.stripe where worker_id = w.id and state = 'leased'
            for update skip locked);
        for lease in
            update @extschema@.stripe s set state = @extschema@.given_back(s.paused), worker_id = null,
                next_at = case when s.paused then 'infinity'::timestamptz end, crashes = least(s.crashes + 1, 1000),
                rank = @extschema@.clock() - s.importance * interval '1 minute'
            where s.ctid = any(places)
            returning s.resource, s.fence, s.crashes > 1 as alone
        loop
            if j.history_seconds > 0 then
                perform @extschema@.note_resources(
                    j, 'lost', array[lease.resource], array[lease.fence], w.name, null);
            end if;
            if w.leases = 1 then
                perform @extschema@.blame_head(j, w.id, lease.resource, lease.alone);
            end if;
        end loop;
        perform @extschema@.unassign(w.id);
    end loop;
end
$$;

-- Removes the rows of workers whose time ran out and that hold nothing any more. It comes last: it locks the job's row.
create or replace function @extschema@.remove_dead(p_job int) returns void language sql as $$
    select @extschema@.archive_worker_counts(w.id) from (
        select id from @extschema@.worker where job_id = p_job and expires_at < @extschema@.clock() order by id limit 16
            for update skip locked
    ) w
    where coalesce(
        (select worker_id from @extschema@.stripe where worker_id = w.id and state = 'leased' limit 1),
        (select worker_id from @extschema@.stripe where worker_id = w.id and state = 'assigned' limit 1)) is null
$$;
