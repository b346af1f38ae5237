-- What happened, of jobs that keep a history: rows of `history`, written by the statements and functions that make it
-- happen, each under `history_seconds > 0`. So it is committed with what happened, or not at all.

-- The units that a claim hands out: of `leased` as hand_out() gives it.
create or replace function @extschema@.note_leases(w @extschema@.worker, leased @extschema@.claimed) returns void
    language sql as $$
    insert into @extschema@.history (slot, at, job_id, event, resource, unit, attempt, fence, who)
    select (select slot from @extschema@.history_ring), (select @extschema@.clock()), w.job_id, 'leased', l.resource,
        (leased).ids[i], (leased).attempts[i] + 1, l.fence, w.name
    from (
        select u.resource, u.fence, u.n, sum(u.n) over (order by u.place) as upto
        from unnest((leased).resources, (leased).fences, (leased).counts) with ordinality u(resource, fence, n, place)
    ) l cross join lateral generate_series(l.upto - l.n + 1, l.upto) i
$$;

-- Does what finish_units() does, and writes it down: the leases are the worker's, and not ended yet.
create or replace function @extschema@.finish_and_note(
    j @extschema@.job, p_worker bigint, p_resources text[], p_done bigint[]
) returns int language sql as $$
    with gone as (
        delete from @extschema@.unit
        where j.completed_seconds = 0 and id = any(p_done) and job_id is not distinct from j.id
            and state is not distinct from 'ready' and (p_resources is null or resource = any(p_resources))
        returning id, resource, attempts
    ), kept as (
        update @extschema@.unit set state = 'done', finished_at = @extschema@.clock()
        where j.completed_seconds > 0 and id = any(p_done) and job_id is not distinct from j.id
            and state is not distinct from 'ready' and (p_resources is null or resource = any(p_resources))
        returning id, resource, attempts
    ), noted as (
        insert into @extschema@.history (slot, at, job_id, event, resource, unit, attempt, fence, who)
        select (select slot from @extschema@.history_ring), (select @extschema@.clock()), j.id, 'done', d.resource,
            d.id, d.attempts + 1, (select fence from @extschema@.stripe where job_id = j.id and resource = d.resource),
            (select name from @extschema@.worker where id = p_worker)
        from (select * from gone union all select * from kept) d
        returning 1
    )
    select count(*)::int from noted
$$;

-- Records units as done, and where the job keeps a history what happened: see finish_units().
create or replace function @extschema@.record_done(
    j @extschema@.job, p_worker bigint, p_resources text[], p_done bigint[]
) returns int language plpgsql as $$
begin
    if j.history_seconds > 0 then
        return @extschema@.finish_and_note(j, p_worker, p_resources, p_done);
    end if;
    return @extschema@.finish_units(j, p_resources, p_done);
end
$$;

-- What happened to resources as a whole, under these fences, or none.
create or replace function @extschema@.note_resources(
    j @extschema@.job, p_event @extschema@.history_event, p_resources text[], p_fences bigint[], p_who text,
    p_reason text
) returns void language sql as $$
    insert into @extschema@.history (slot, at, job_id, event, resource, fence, who, reason)
    select (select slot from @extschema@.history_ring), (select @extschema@.clock()), j.id, p_event, r.resource,
        r.fence, p_who, nullif(p_reason, '')
    from unnest(p_resources, p_fences) r(resource, fence) where j.history_seconds > 0 and r.resource is not null
$$;

-- What happened to a job as a whole.
create or replace function @extschema@.note_job(
    p_job int, p_event @extschema@.history_event, p_who text, p_reason text
) returns void language sql as $$
    insert into @extschema@.history (slot, at, job_id, event, who, reason)
    select (select slot from @extschema@.history_ring), (select @extschema@.clock()), id, p_event, p_who,
        nullif(p_reason, '')
    from @extschema@.job where id = p_job and history_seconds > 0
$$;

-- Who calls, for what people do without a name: the session's role, or that of its SET ROLE.
create or replace function @extschema@.caller() returns text language sql stable as $$
    select coalesce(nullif(current_setting('role'), 'none'), session_user)
$$;

-- What an event is called in JSON, for resource_history() and unit_history().
create or replace function @extschema@.told(h @extschema@.history) returns json language sql stable as $$
    select json_build_object('id', h.id, 'at', h.at, 'event', h.event, 'resource', h.resource, 'unit', h.unit,
        'attempt', h.attempt, 'fence', h.fence, 'who', h.who, 'state', h.state, 'reason', h.reason)
$$;

-- A page of events, p_found at most, the newest first, as JSON: those that the job still keeps. `next`: before which id
-- the next page begins; null where nothing follows. Null where there is no such job.
create or replace function @extschema@.told_page(p_job int, p_found @extschema@.history[], p_bound int) returns json
    language sql stable as $$
    with shown as (
        select f.* from unnest(p_found) f
        where f.at > @extschema@.clock() - make_interval(secs => (
            select history_seconds from @extschema@.job where id = p_job))
    )
    select json_build_object('now', @extschema@.clock(), 'namespace', j.namespace, 'job_type', j.job_type,
        'kept_seconds', j.history_seconds,
        'events', coalesce((select json_agg(@extschema@.told(s) order by s.id desc) from shown s), '[]'),
        'next', case when (select count(*) from shown) = p_bound then (select min(id) from shown) end)
    from @extschema@.job j where j.id = p_job
$$;

-- The last p_bound events before an id: of a resource, its units, and the job as a whole; of that alone where
-- p_resource is null.
create or replace function @extschema@.resource_events(p_job int, p_resource text, p_before bigint, p_bound int)
    returns setof @extschema@.history language sql stable as $$
    select * from (
        (select * from @extschema@.history h where h.job_id = p_job and h.resource = p_resource
            and h.id < p_before order by h.id desc limit p_bound)
        union all (select * from @extschema@.history h where h.job_id = p_job and h.resource is null
            and h.unit is null and h.id < p_before order by h.id desc limit p_bound)
    ) e order by e.id desc limit p_bound
$$;

-- The last p_bound events before an id: of a unit, and from its first to its last, or to now where it is not over, of
-- its resource and of the job as a whole.
create or replace function @extschema@.unit_events(p_job int, p_unit bigint, p_before bigint, p_bound int)
    returns setof @extschema@.history language sql stable as $$
    with own as materialized (
        select * from @extschema@.history h where h.unit = p_unit and h.job_id is not distinct from p_job
            and h.id < p_before order by h.id desc limit p_bound
    ), span as materialized (
        select a.resource, a.id as first, case when exists (
                select from @extschema@.unit where id = p_unit and state in ('ready', 'delayed', 'held'))
            then p_before else least(p_before, z.id) end as upto
        from (select resource, id from @extschema@.history h where h.unit = p_unit order by h.id limit 1) a
        cross join (select id from @extschema@.history h where h.unit = p_unit order by h.id desc limit 1) z
    ), around as (
        select w.* from span cross join lateral (
            (select * from @extschema@.history h where h.job_id = p_job and h.resource = span.resource
                and h.unit is null and h.id > span.first and h.id < span.upto order by h.id desc limit p_bound)
            union all (select * from @extschema@.history h where h.job_id = p_job and h.resource is null
                and h.unit is null and h.id > span.first and h.id < span.upto order by h.id desc limit p_bound)) w
    )
    select * from (select * from own union all select * from around) e order by e.id desc limit p_bound
$$;

-- Turns the ring on: empties places that nobody keeps anything in any more, and goes to the next one where this one has
-- had its part of the time. The history that is kept longest says how long that is: all places but one have it. It
-- waits for nobody: a place that somebody still reads, or has written to in a transaction that is not over, is left for
-- the next time.
create or replace function @extschema@.turn_history() returns void language plpgsql as $$
declare
    this_moment constant timestamptz := @extschema@.clock();
    longest interval;
    ring @extschema@.history_ring;
    ends timestamptz[];
    following int;
begin
    select * into ring from @extschema@.history_ring for no key update skip locked;
    if not found then
        return;
    end if;
    ends := ring.ended;
    select make_interval(secs => coalesce(max(history_seconds), 0)) into longest from @extschema@.job
        where history_seconds > 0;
    for place in 0 .. cardinality(ends) - 1 loop
        if ends[place + 1] <= this_moment - longest then
            ends[place + 1] := case when not @extschema@.emptied(place) then ends[place + 1] end;
        end if;
    end loop;
    following := (ring.slot + 1) % cardinality(ends);
    if ends[following + 1] is null and ring.since <= this_moment - longest / (cardinality(ends) - 1)
        and exists (select from @extschema@.history where slot = ring.slot) then
        ends[ring.slot + 1] := this_moment;
        update @extschema@.history_ring set slot = following, since = this_moment, ended = ends;
    elsif ends <> ring.ended then
        update @extschema@.history_ring set ended = ends;
    end if;
end
$$;

-- Empties a place of the ring, where nobody is at it.
create or replace function @extschema@.emptied(p_place int) returns boolean language plpgsql as $$
begin
    execute format('lock table %s%s in access exclusive mode nowait', '@extschema@.history_', p_place);
    execute format('truncate %s%s', '@extschema@.history_', p_place);
    return true;
exception when lock_not_available then
    return false;
end
$$;

-- Removes what a job has of a history, at most p_bound events: those of its first resources by name, at last its own.
-- Returns how many.
create or replace function @extschema@.clear_history(p_job int, p_bound int) returns bigint language plpgsql as $$
declare
    upto record;
    n bigint;
begin
    select h.resource, h.id into upto from (
        select resource, id from @extschema@.history where job_id = p_job order by resource, id limit p_bound) h
    order by h.resource desc, h.id desc limit 1;
    if upto.resource is null then
        delete from @extschema@.history where job_id = p_job and (resource is not null or id <= upto.id);
    else
        delete from @extschema@.history where job_id = p_job and (resource, id) <= (upto.resource, upto.id);
    end if;
    get diagnostics n = row_count;
    return n;
end
$$;
