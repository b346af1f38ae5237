-- What is shown of a job beside its numbers. Each look reads a bounded number of rows by index.

-- When the unit was put in that has waited longest, among those at the head of the line: of the 10 ready resources
-- that are claimed next, and of the 10 wakes that are folded next. Null where nothing waits for a worker.
create or replace function @extschema@.page_oldest(p_job int) returns timestamptz language sql stable as $$
    select min(u.enqueued_at) from (
        (select resource from @extschema@.stripe where job_id = p_job and state = 'ready' order by rank limit 10)
        union all (select resource from @extschema@.wake where job_id = p_job order by id limit 10)
    ) r cross join lateral (
        select enqueued_at from @extschema@.unit where job_id = p_job and resource = r.resource
            and state = 'ready' order by id limit 1
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
        where job_id = j.id and resource = s.resource and state = 'ready' order by id limit 1) u on true
    left join lateral (select id, due_at from @extschema@.unit
        where j.on_failure = 'Block' and job_id = j.id and resource = s.resource and state = 'delayed'
            order by id limit 1) b on true
    left join lateral (select id, reason from @extschema@.unit
        where p_for_person and job_id = j.id and resource = s.resource and state = 'held' order by id limit 1) h on true
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

-- Why units are set aside, by how often: of the 2,000 that died last, or of the first 2,000 that are held. A reason is
-- named by its digest.
create or replace function @extschema@.page_reasons(p_job int, p_state @extschema@.unit_state, p_bound int)
    returns json language sql stable as $$
    with looked as materialized (
        (select reason from @extschema@.unit
        where p_state = 'dead' and job_id = p_job and state = 'dead' and finished_at is not null
            order by finished_at desc limit 2000)
        union all (select reason from @extschema@.units_after(p_job, 'held', null, '', 0, 2000)
            where p_state = 'held')
    )
    select json_build_object('looked', (select count(*) from looked), 'most', 2000, 'reasons', coalesce((
        select json_agg(json_build_object('digest', md5(g.reason), 'reason', left(g.reason, 500), 'units',
            g.n) order by g.n desc, g.reason)
        from (select reason, count(*) n from looked group by reason
            order by count(*) desc, reason limit p_bound) g), '[]'))
$$;
