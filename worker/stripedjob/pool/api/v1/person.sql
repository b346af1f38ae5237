-- What people change: units that are set aside or wait, and what is worked on at all. p_who: for the history, and where
-- it is null, the role that calls.

-- Makes held or dead units ready again, with their attempts and crashes at 0: of the job, of one resource, or given
-- ids; at most p_bound of them. Returns how many. A resource that was waiting for one of them goes on when its wake is
-- folded.
create or replace function @extschema@.revive(p_job int, p_state @extschema@.unit_state, p_resource text,
    p_ids bigint[], p_bound int, p_who text default null) returns int language plpgsql as $$
declare
    j @extschema@.job;
    n int;
    chosen bigint[];
begin
    perform @extschema@.check_job(p_job, 'person');
    select * into j from @extschema@.job where id = p_job;
    chosen := @extschema@.set_aside(p_job, p_state, p_resource, p_ids, p_bound);
    with revived as (
        update @extschema@.unit set state = 'ready', attempts = 0, crashes = 0, finished_at = null, reason = null,
            trace = null, due_at = @extschema@.clock()
        where state is not distinct from p_state and id = any(chosen)
        returning id, resource, importance
    ), noted as (
        insert into @extschema@.history (slot, at, job_id, event, resource, unit, who, state)
        select (select slot from @extschema@.history_ring), (select @extschema@.clock()), p_job,
            case p_state when 'dead' then 'retried' else 'released' end::@extschema@.history_event, resource, id,
            coalesce(p_who, @extschema@.caller()), 'ready'
        from revived where j.history_seconds > 0
    ), woken as (
        insert into @extschema@.wake (job_id, resource, units, importance, calls)
        select p_job, resource, count(*), max(importance), row_number() over () = 1 from revived group by resource
            order by min(id) returning units
    )
    select coalesce(sum(units), 0) into n from woken;
    perform @extschema@.count_out(p_job, p_state, n);
    return n;
end
$$;

-- Removes held or dead units for good, at most p_bound of them. Returns how many. A resource that was waiting for one
-- of them is woken.
create or replace function @extschema@.purge(p_job int, p_state @extschema@.unit_state, p_resource text, p_ids bigint[],
    p_bound int, p_who text default null) returns int language plpgsql as $$
declare
    j @extschema@.job;
    n int;
    chosen bigint[];
begin
    perform @extschema@.check_job(p_job, 'person');
    select * into j from @extschema@.job where id = p_job;
    chosen := @extschema@.set_aside(p_job, p_state, p_resource, p_ids, p_bound);
    with gone as (
        delete from @extschema@.unit where state is not distinct from p_state and id = any(chosen)
        returning id, resource, reason
    ), noted as (
        insert into @extschema@.history (slot, at, job_id, event, resource, unit, who, reason)
        select (select slot from @extschema@.history_ring), (select @extschema@.clock()), p_job, 'purged', resource,
            id, coalesce(p_who, @extschema@.caller()), reason
        from gone where j.history_seconds > 0
    ), woken as (
        insert into @extschema@.wake (job_id, resource, units, importance, calls)
        select p_job, g.resource, 0, 0, row_number() over () = 1 from (select distinct resource from gone) g
        where (select s.state from @extschema@.stripe s where s.job_id = p_job and s.resource = g.resource) = 'waiting'
    )
    select count(*) into n from gone;
    perform @extschema@.count_out(p_job, p_state, n);
    return n;
end
$$;

-- Cancels units that are ready, delayed or held: given ids, or of these the ones in p_state where it is not null; or
-- those of one state after a place in the order of resource and id, of one resource or all; it looks at p_bound of
-- them. `ended`: so many are dead now, with who and why as their reason. `asked`: so many are of a resource that is
-- leased: a worker that has begun one is to end it. The place after the last that was looked at; null: there was none.
create or replace function @extschema@.cancel(
    p_job int, p_state @extschema@.unit_state, p_resource text, p_ids bigint[], p_after_resource text,
    p_after_id bigint, p_who text, p_why text, p_bound int,
    out ended int, out asked int, out next_resource text, out next_id bigint
) language plpgsql as $$
declare
    words constant text := 'cancelled by ' || p_who || coalesce(': ' || nullif(p_why, ''), '');
    j @extschema@.job;
    looked @extschema@.unit;
    ids bigint[] := '{}';
    resources text[] := '{}';
    unleased text[];
begin
    perform @extschema@.check_job(p_job, 'person');
    perform @extschema@.await_turns(p_job, '{upkeep}');
    select * into j from @extschema@.job where id = p_job;
    for looked in
        select * from @extschema@.units_given(p_job, p_resource, p_ids, p_bound) where p_ids is not null
        union all select * from @extschema@.units_after(
            p_job, p_state::text, p_resource, p_after_resource, p_after_id, p_bound) where p_ids is null
        order by resource, id
    loop
        next_resource := looked.resource;
        next_id := looked.id;
        if looked.state in ('ready', 'delayed', 'held') and looked.state = coalesce(p_state, looked.state)
            and looked.cancelled is null then
            ids := ids || looked.id;
            resources := resources || looked.resource;
        end if;
    end loop;
    unleased := @extschema@.lock_unleased(p_job, array(select distinct r from unnest(resources) r order by r));
    with marked as (
        update @extschema@.unit u set cancelled = words where u.state is not distinct from 'ready' and u.id = any(array(
            select c.id from unnest(ids, resources) c(id, resource) where c.resource <> all(unleased)))
        returning u.id, u.resource
    ), noted as (
        insert into @extschema@.history (slot, at, job_id, event, resource, unit, who, reason)
        select (select slot from @extschema@.history_ring), (select @extschema@.clock()), p_job, 'cancelled',
            m.resource, m.id, p_who, nullif(p_why, '')
        from marked m where j.history_seconds > 0
    )
    select count(*) into asked from marked;
    ended := @extschema@.end_waiting(j, ids, unleased, words, p_who, nullif(p_why, ''));
    perform @extschema@.notify_ready(p_job);
end
$$;

-- Has units that wait for another try go on at once: given ids, whatever they are delayed for, or those after a place
-- in the order of resource and id that were tried before, of one resource or all; it looks at p_bound of the delayed.
-- Returns how many, and the place after the last that was looked at; null: there was none.
create or replace function @extschema@.retry_now(
    p_job int, p_resource text, p_ids bigint[], p_after_resource text, p_after_id bigint, p_bound int,
    out units int, out next_resource text, out next_id bigint, p_who text default null
) language plpgsql as $$
declare
    j @extschema@.job;
    looked @extschema@.unit;
    ids bigint[] := '{}';
begin
    perform @extschema@.check_job(p_job, 'person');
    perform @extschema@.await_turns(p_job, '{upkeep}');
    select * into j from @extschema@.job where id = p_job;
    for looked in
        select * from @extschema@.units_given(p_job, p_resource, p_ids, p_bound) where p_ids is not null
        union all select * from @extschema@.units_after(
            p_job, 'delayed', p_resource, p_after_resource, p_after_id, p_bound) where p_ids is null
        order by resource, id
    loop
        next_resource := looked.resource;
        next_id := looked.id;
        if p_ids is not null or looked.reason is not null then
            ids := ids || looked.id;
        end if;
    end loop;
    with chosen as materialized (
        select id from @extschema@.unit where id = any(ids) and state is not distinct from 'delayed'
        order by resource, id for update
    ), due as (
        update @extschema@.unit set state = 'ready', due_at = @extschema@.clock()
        where id = any(array(select id from chosen))
        returning id, resource, importance
    ), noted as (
        insert into @extschema@.history (slot, at, job_id, event, resource, unit, who, state)
        select (select slot from @extschema@.history_ring), (select @extschema@.clock()), p_job, 'hurried',
            due.resource, due.id, coalesce(p_who, @extschema@.caller()), 'ready'
        from due where j.history_seconds > 0
    ), woken as (
        insert into @extschema@.wake (job_id, resource, units, importance, calls)
        select p_job, resource, count(*), max(importance), row_number() over () = 1 from due group by resource
            order by min(id) returning wake.units
    )
    select coalesce(sum(w.units), 0) into units from woken w;
    update @extschema@.flow set delayed_out = delayed_out + units where job_id = p_job and units > 0;
end
$$;

-- Has resources go on at once that wait for another try of their first unit, or for a lock: of given units, or those
-- after a resource by name, one or all; at most p_bound. Returns how many, and the last; null: there was none.
create or replace function @extschema@.retry_resources_now(p_job int, p_resource text, p_ids bigint[],
    p_after_resource text, p_bound int, out resources int, out next_resource text, p_who text default null)
    language plpgsql as $$
declare
    j @extschema@.job;
    names text[];
    free text[];
    due text[];
begin
    perform @extschema@.check_job(p_job, 'person');
    perform @extschema@.await_turns(p_job, '{upkeep}');
    select * into j from @extschema@.job where id = p_job;
    if p_ids is not null then
        names := array(select distinct u.resource from @extschema@.unit u
            where u.id = any(p_ids) and u.job_id = p_job and (p_resource is null or u.resource = p_resource)
            order by u.resource limit p_bound);
    elsif p_resource is not null then
        names := array[p_resource];
    else
        names := array(select s.resource from @extschema@.stripe s
            where s.job_id = p_job and s.state = 'waiting' and s.resource > p_after_resource
            order by s.resource limit p_bound);
    end if;
    free := array(select resource from @extschema@.lock_free(p_job, names));
    due := array(select r.resource from unnest(free) r(resource) cross join lateral (
        select next_at from @extschema@.stripe where job_id = p_job and resource = r.resource limit 1) s
        where s.next_at < 'infinity');
    resources := @extschema@.go_on(j, due);
    perform @extschema@.note_resources(j, 'hurried', due, null, coalesce(p_who, @extschema@.caller()), null);
    next_resource := names[cardinality(names)];
    perform @extschema@.notify_ready(p_job);
end
$$;

-- Pauses a job: nothing of it is claimed; what runs ends, and units come in. False: it was paused already.
create or replace function @extschema@.pause_job(p_job int, p_who text, p_why text) returns boolean
    language plpgsql as $$
begin
    perform @extschema@.check_job(p_job, 'person');
    update @extschema@.job set paused_at = @extschema@.clock(), paused_by = p_who, paused_why = p_why,
        limit_unpaused = schedule_limit, schedule_limit = 0
    where id = p_job and paused_at is null;
    if found then
        perform @extschema@.note_job(p_job, 'paused', p_who, p_why);
        return true;
    end if;
    return false;
end
$$;

-- Ends the pause of a job: the limit is what was applied last; and closes its breaker. False: it was neither paused
-- nor kept back by that.
create or replace function @extschema@.resume_job(p_job int, p_who text default null) returns boolean
    language plpgsql as $$
begin
    perform @extschema@.check_job(p_job, 'person');
    update @extschema@.job set schedule_limit = coalesce(limit_unpaused, schedule_limit), limit_unpaused = null,
        paused_at = null, paused_by = null, paused_why = null
    where id = p_job and (paused_at is not null or open_until is not null);
    if found then
        perform @extschema@.close_breaker(p_job);
        perform pg_notify(@extschema@.channel(p_job::text), '*'), @extschema@.notify_delegator(p_job);
        perform pg_notify(@extschema@.channel('operator'), p_job::text);
        perform @extschema@.note_job(p_job, 'resumed', coalesce(p_who, @extschema@.caller()), null);
        return true;
    end if;
    return false;
end
$$;

-- Pauses a resource, whether it has anything to do or not: its lease, if it has one, ends as it would, and there is no
-- next one. False: it was paused already. It waits for whoever has the stripe, which is not for long: not so long that
-- upkeep, whose turn it has, could not end a session that hangs.
create or replace function @extschema@.pause_resource(p_job int, p_resource text, p_who text, p_why text)
returns boolean language plpgsql as $$
declare
    is_new boolean;
begin
    perform @extschema@.check_job(p_job, 'person');
    set local lock_timeout to '10s';
    perform @extschema@.await_turns(p_job, '{upkeep}');
    insert into @extschema@.stripe as s (job_id, resource, state, paused, rank, next_at)
    values (p_job, p_resource, 'waiting', true, @extschema@.clock(), 'infinity')
    on conflict (job_id, resource) do update set paused = true,
        state = case s.state when 'leased' then 'leased' else 'waiting' end::@extschema@.stripe_state,
        worker_id = case s.state when 'leased' then s.worker_id end,
        next_at = case when s.state <> 'leased' then 'infinity'::timestamptz end;
    insert into @extschema@.pause (job_id, resource, at, who, why)
    values (p_job, p_resource, @extschema@.clock(), p_who, p_why) on conflict do nothing;
    is_new := found;
    perform @extschema@.note_resources(j, 'paused', array[p_resource], null, p_who, p_why) from @extschema@.job j
        where j.id = p_job and is_new;
    return is_new;
end
$$;

-- Ends the pause of a resource: it goes on at once, unless where order is strict it has a held unit. False: it was not
-- paused.
create or replace function @extschema@.resume_resource(p_job int, p_resource text, p_who text default null)
    returns boolean language plpgsql as $$
declare
    j @extschema@.job;
    was_paused boolean;
begin
    perform @extschema@.check_job(p_job, 'person');
    set local lock_timeout to '10s';
    perform @extschema@.await_turns(p_job, '{upkeep}');
    select * into j from @extschema@.job where id = p_job;
    update @extschema@.stripe s set paused = false,
        area = case when j.outstanding_max is not null then @extschema@.area_of(j, p_resource) end
    where s.job_id = p_job and s.resource = p_resource and s.paused;
    if @extschema@.go_on(j, array[p_resource]) > 0 then
        delete from @extschema@.stripe s where s.job_id = p_job and s.resource = p_resource and s.completed = 0
            and @extschema@.first_unit(p_job, p_resource) is null;
        perform @extschema@.notify_ready(p_job);
    end if;
    delete from @extschema@.pause where job_id = p_job and resource = p_resource;
    was_paused := found;
    if was_paused then
        perform @extschema@.note_resources(
            j, 'resumed', array[p_resource], null, coalesce(p_who, @extschema@.caller()), null);
    end if;
    return was_paused;
end
$$;
