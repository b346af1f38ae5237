-- What the delegator of a job calls.

-- Becomes the job's delegator, where there is none: returns the term, or null where another leads.
create or replace function @extschema@.lead(p_job int, p_name text) returns bigint language sql as $$
    select @extschema@.check_job(p_job, 'delegator');
    insert into @extschema@.delegator as d (job_id, term, name, expires_at)
    values (p_job, nextval('@extschema@.fence'), p_name, @extschema@.clock() + @extschema@.delegator_lease(p_job))
    on conflict (job_id) do update set term = excluded.term, name = excluded.name, expires_at = excluded.expires_at
        where d.expires_at <= @extschema@.clock()
    returning term
$$;

-- What the delegator does, over and over: keep the pool up, and assign. `leads` false: the term is over, and nothing
-- was done; it must lead again. Invariant: none but the delegator of the newest term assigns; its row is locked
-- meanwhile, and a successor has to write it. `wait_seconds`: how long it may sleep, unless it is called.
create or replace function @extschema@.delegate(p_job int, p_term bigint, out leads boolean, out assigned int,
    out wait_seconds float8)
language plpgsql as $$
declare
    idle_seconds constant float8 := @extschema@.idle_seconds(p_job); -- between two looks at a job where nothing happens
    j @extschema@.job;
    slots bigint[];
begin
    perform @extschema@.check_job(p_job, 'delegator');
    assigned := 0;
    wait_seconds := idle_seconds;
    update @extschema@.delegator set expires_at = @extschema@.clock() + @extschema@.delegator_lease(p_job)
    where job_id = p_job and term = p_term and expires_at > @extschema@.clock();
    leads := found;
    -- The key is shared until the end, so that apply_job() waits for what is being assigned before it takes back what
    -- was.
    select * into j from @extschema@.job where id = p_job for key share;
    if not leads or not j.delegated then
        return;
    end if;
    perform @extschema@.keep(p_job);
    if j.outstanding_max is not null
        and exists (select from @extschema@.turn where job_id = p_job and kind = 'refit' and at < 'infinity') then
        return; -- the areas of some resources are not known yet
    end if;
    perform @extschema@.unassign_stale(p_job);
    if @extschema@.breaker_admits(j) = 0 then
        return;
    end if;
    slots := @extschema@.open_slots(p_job);
    if @extschema@.breaker_admits(j) = 1 then -- the probe
        slots := case when @extschema@.has_assigned(p_job) then '{}' else slots[1:1] end;
    end if;
    if cardinality(slots) > 0 then
        if j.outstanding_max is null then
            assigned := @extschema@.assign_slots(p_job, null, slots);
        else
            select t.assigned, least(t.wait_seconds, idle_seconds) into assigned, wait_seconds
                from @extschema@.assign_throttled(j, slots) t;
        end if;
        perform @extschema@.notify_assigned(slots[1:assigned]);
    end if;
    if assigned = cardinality(slots)
        and exists (select from @extschema@.worker where job_id = p_job and not working) then
        perform @extschema@.notify_idle(p_job, @extschema@.count_ready(p_job, greatest(1, j.schedule_limit), 1));
    end if;
end
$$;

-- Leads no more, so that another need not wait.
create or replace function @extschema@.resign(p_job int, p_term bigint) returns void language sql as $$
    select @extschema@.check_job(p_job, 'delegator');
    update @extschema@.delegator set expires_at = '-infinity' where job_id = p_job and term = p_term
$$;
