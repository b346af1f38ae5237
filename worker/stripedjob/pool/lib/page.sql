-- What the views of the page have in common: see api/v1/page.sql. Each reads a bounded number of rows by index.

-- Since when the unit waits that has waited longest, from when it was put in, or due where that was later: among those
-- at the head of the line, of the 10 ready resources that are claimed next, and of 10 wakes. Null where nothing waits
-- for a worker.
create or replace function @extschema@.page_oldest(p_job int) returns timestamptz language sql stable as $$
    select min(u.since) filter (where isfinite(u.since)) from (
        (select resource from @extschema@.stripe where job_id = p_job and state = 'ready' order by rank limit 10)
        union all (select resource from @extschema@.wake where job_id = p_job limit 10)
    ) r cross join lateral (
        select greatest(enqueued_at, due_at) as since from @extschema@.unit
        where job_id = p_job and resource >= r.resource and resource <= r.resource and state = 'ready'
        order by resource, id limit 1
    ) u
$$;

-- Resources of a job that wait and go on by themselves, those first that go on first; or those that wait for a person.
-- With what explains why.
create or replace function @extschema@.page_waiting(j @extschema@.job, p_for_person boolean, p_bound int) returns json
    language sql stable as $$
    select coalesce(json_agg(json_build_object(
        'resource', s.resource, 'next_at', s.next_at, 'now', @extschema@.clock(), 'ready', s.ready, 'held', h.id,
        'head', case when u.id is not null then json_build_object('id', u.id, 'attempts', u.attempts, 'reason',
            left(u.reason, 300)) end,
        'barrier', case when b.id is not null then json_build_object('id', b.id, 'due_at', b.due_at) end,
        'paused', case when k.at is not null then json_build_object('who', k.who, 'why', k.why, 'at', k.at) end,
        'reason', left(h.reason, 300)) order by s.next_at, s.resource), '[]')
    from (
        (select resource, next_at, ready from @extschema@.stripe
        where not p_for_person and job_id = j.id and state = 'waiting' and next_at < 'infinity'
            order by next_at limit p_bound)
        union all (select resource, next_at, ready from @extschema@.stripe
        where p_for_person and job_id = j.id and state = 'waiting' and next_at = 'infinity' limit p_bound)
    ) s
    left join lateral (select id, attempts, reason from @extschema@.unit
        where job_id = j.id and resource >= s.resource and resource <= s.resource and state = 'ready'
        order by resource, id limit 1) u on true
    left join lateral (select id, due_at from @extschema@.unit
        where j.on_failure = 'Block' and job_id = j.id and resource >= s.resource and resource <= s.resource
            and state = 'delayed' order by resource, id limit 1) b on true
    left join lateral (select id, reason from @extschema@.unit
        where p_for_person and job_id = j.id and resource >= s.resource and resource <= s.resource and state = 'held'
        order by resource, id limit 1) h on true
    left join @extschema@.pause k on k.job_id = j.id and k.resource = s.resource
$$;

-- Ready resources of a job, those first that are claimed next, with since when they are ready.
create or replace function @extschema@.page_ready(p_job int, p_bound int) returns json language sql stable as $$
    select coalesce(json_agg(row_to_json(s) order by s.rank), '[]') from (
        select resource, ready, crashes, rank, importance, rank + importance * interval '1 minute' as since
            from @extschema@.stripe
        where job_id = p_job and state = 'ready' order by rank limit p_bound
    ) s
$$;

-- Up to p_bound leases of a worker; `ends_at` is the worker's own, since they all end together.
create or replace function @extschema@.page_leases(w @extschema@.worker,
    p_bound int) returns json language sql stable as $$
    select coalesce(json_agg(row_to_json(s)), '[]') from (
        select resource, fence, leased_at, ready, w.expires_at as ends_at from @extschema@.stripe
        where worker_id = w.id and state = 'leased' limit p_bound
    ) s
$$;

-- One worker, or those of a job: what they did and hold.
create or replace function @extschema@.page_workers(p_job int, p_worker bigint, p_workers int,
    p_leases int) returns json language sql stable as $$
    select coalesce(json_agg(json_build_object(
        'id', w.id, 'name', w.name, 'working', w.working, 'started_at', w.started_at, 'ends_at', w.expires_at,
        'alive', w.expires_at >= @extschema@.clock(), 'done', w.done, 'failed', w.retried + w.held + w.dead, 'leased',
            n.leased, 'units', n.units,
        'leases', @extschema@.page_leases(w.whole, p_leases)) order by w.working desc, w.started_at, w.id), '[]')
    from (
        select o as whole, o.* from @extschema@.worker o where o.job_id = p_job
            and (p_worker is null or o.id = p_worker)
        order by o.working desc, o.started_at, o.id limit p_workers
    ) w cross join lateral (
        select count(*) leased, coalesce(sum(ready), 0) units from @extschema@.stripe where worker_id = w.id
            and state = 'leased'
    ) n
$$;

-- Units of a job that are set aside, held or dead, after this place in the order of resource and id: of one resource
-- alone where one is given. The states are literals: only then is the index of those set aside read in its order.
create or replace function @extschema@.page_set_aside(
    p_job int, p_state @extschema@.unit_state, p_only text, p_resource text, p_id bigint, p_bound int
) returns table (resource text, id bigint, reason text) language sql stable as $$
    (select resource, id, reason from @extschema@.unit
    where p_state = 'held' and p_only is null and job_id = p_job and state = 'held'
        and (resource, id) > (p_resource, p_id) order by resource, id limit p_bound)
    union all (select resource, id, reason from @extschema@.unit
    where p_state = 'dead' and p_only is null and job_id = p_job and state = 'dead'
        and (resource, id) > (p_resource, p_id) order by resource, id limit p_bound)
    union all (select resource, id, reason from @extschema@.unit
    where p_state = 'held' and job_id = p_job and state = 'held' and resource <= p_only
        and (resource, id) > (p_only, case when p_resource = p_only then p_id else 0 end)
        order by resource, id limit p_bound)
    union all (select resource, id, reason from @extschema@.unit
    where p_state = 'dead' and job_id = p_job and state = 'dead' and resource <= p_only
        and (resource, id) > (p_only, case when p_resource = p_only then p_id else 0 end)
        order by resource, id limit p_bound)
$$;

-- Why units are set aside, by how often: of the 2,000 that died last, or of the first 2,000 that are held. A reason is
-- named by its digest.
create or replace function @extschema@.page_reasons(p_job int, p_state @extschema@.unit_state,
    p_bound int) returns json language sql stable as $$
    with looked as materialized (
        (select reason from @extschema@.unit
        where p_state = 'dead' and job_id = p_job and state = 'dead' and finished_at is not null
            order by finished_at desc limit 2000)
        union all (select reason from @extschema@.page_set_aside(p_job, 'held', null, '', 0, 2000)
            where p_state = 'held')
    )
    select json_build_object('looked', (select count(*) from looked), 'most', 2000, 'reasons', coalesce((
        select json_agg(json_build_object('digest', md5(g.reason), 'reason', left(g.reason, 500), 'units',
            g.n) order by g.n desc, g.reason)
        from (select reason, count(*) n from looked group by reason
            order by count(*) desc, reason limit p_bound) g), '[]'))
$$;

-- The first units of a resource in one state, as their resource's page shows them.
create or replace function @extschema@.page_units(p_job int, p_resource text, p_state @extschema@.unit_state,
    p_bound int)
returns json language plpgsql stable as $$
declare
    units json;
begin
    execute format('select coalesce(json_agg(row_to_json(u) order by u.id), ''[]'') from (
        select id, attempts, crashes, enqueued_at, due_at, left(reason, 500) as reason
        from %s where job_id = $1 and resource >= $2 and resource <= $2 and state = %L
        order by resource, id limit $3) u',
        '@extschema@.unit', p_state)
    into units using p_job, p_resource, p_bound;
    return units;
end
$$;

-- What happened last to a resource, a unit, or the job as a whole; null where it keeps no history.
create or replace function @extschema@.page_history(j @extschema@.job, p_resource text, p_unit bigint) returns json
    language sql stable as $$
    select case when j.history_seconds = 0 then null when p_unit is not null
        then @extschema@.unit_history(j.id, p_unit, null, 20)
        else @extschema@.resource_history(j.id, p_resource, null, 20) end
$$;

-- The job and the resource of a unit that is gone, by the last that its history says.
create or replace function @extschema@.page_gone(p_unit bigint) returns table (job_id int, resource text)
    language sql stable as $$
    select h.job_id, h.resource
    from (select * from @extschema@.history where unit = p_unit order by id desc limit 1) h
    join @extschema@.job j on j.id = h.job_id
        and h.at > @extschema@.clock() - make_interval(secs => j.history_seconds)
$$;

-- Up to p_bound resources with something to do or set aside whose name begins so, but for the name itself; they are
-- looked for in the order of names, by skipping through an index of each kind. Where that order is not the bytes', some
-- that belong there stand elsewhere: 20 others in a row are looked past, 200 in all.
create or replace function @extschema@.page_names(p_job int, p_begin text, p_bound int) returns setof text
    language plpgsql stable as $$
declare
    name text := p_begin;
    found_names int := 0;
    others int := 0;
begin
    for look in 1 .. 200 loop
        select min(n.first) into name from (values
            ((select resource from @extschema@.stripe where job_id = p_job and resource > name
                order by resource limit 1)),
            ((select resource from @extschema@.unit where job_id = p_job and state = 'ready' and resource > name
                order by resource limit 1)),
            ((select resource from @extschema@.unit where job_id = p_job and state = 'delayed' and resource > name
                order by resource limit 1)),
            ((select resource from @extschema@.unit where job_id = p_job and state = 'held' and resource > name
                order by resource limit 1)),
            ((select resource from @extschema@.unit where job_id = p_job and state = 'dead' and resource > name
                order by resource limit 1))) n(first);
        others := case when starts_with(name, p_begin) then 0 else others + 1 end;
        exit when name is null or others > 20;
        if others = 0 then
            return next name;
            found_names := found_names + 1;
            exit when found_names = p_bound;
        end if;
    end loop;
end
$$;
