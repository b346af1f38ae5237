-- What the page of `stripedjob ui` shows: each view is one call that answers with one JSON object, and reads a bounded
-- number of rows by index. Nothing here changes anything, nor gives a payload.

-- The numbers of up to p_bound jobs that come after this one by name, and whether there are more.
create or replace function @extschema@.page_jobs(p_namespace text, p_job_type text,
    p_bound int) returns json language sql stable as $$
    with picked as materialized (
        select id, namespace, job_type from @extschema@.job where (namespace, job_type) > (p_namespace, p_job_type)
            and (not exists (select from @extschema@.permission) or @extschema@.may(namespace, job_type, 'page'))
        order by namespace, job_type limit p_bound + 1
    )
    select json_build_object('now', @extschema@.clock(), 'more', (select count(*) > p_bound from picked),
        'jobs', coalesce((select json_agg(row_to_json(r) order by r.namespace, r.job_type) from (
            select s.*, @extschema@.page_oldest(p.id) as oldest_at
            from (select * from picked order by namespace, job_type limit p_bound) p
            cross join lateral (select * from @extschema@.job_status where id = p.id limit 1) s) r), '[]'))
$$;

-- A page of the units that are set aside, all or those of one reason, after this place, and why most of them are. It
-- looks at 2,000 at most, so that a page may be short and yet have a next one; `next` is null where nothing follows.
-- Null where there is no such job.
create or replace function @extschema@.page_aside(
    p_job int, p_state @extschema@.unit_state, p_digest text, p_resource text, p_id bigint, p_bound int
) returns json language sql stable as $$
    select @extschema@.check_job(p_job, 'page');
    with looked as materialized (
        select resource, id, reason from @extschema@.page_set_aside(p_job, p_state, null, p_resource, p_id, 2000)
    ), matching as materialized (
        select resource, id, left(reason, 500) as reason from looked
            where p_digest is null or md5(reason) = p_digest order by resource, id limit p_bound
    )
    select json_build_object('now', @extschema@.clock(), 'namespace', j.namespace, 'job_type', j.job_type,
        'by', @extschema@.page_reasons(j.id, p_state, p_bound),
        'units', coalesce((select json_agg(row_to_json(m) order by m.resource, m.id) from matching m), '[]'),
        'next', case
            when (select count(*) from matching) = p_bound then
                (select json_build_array(resource, id) from matching order by resource desc, id desc limit 1)
            when (select count(*) from looked) = 2000 then
                (select json_build_array(resource, id) from looked order by resource desc, id desc limit 1) end)
    from @extschema@.job j where j.id = p_job
$$;

-- Which units that are set aside an action is for: the ids among the next p_bound of them, and the place where to go
-- on, null at the end.
create or replace function @extschema@.page_choose(
    p_job int, p_state @extschema@.unit_state, p_digest text, p_only text, p_resource text, p_id bigint, p_bound int
) returns json language sql stable as $$
    select @extschema@.check_job(p_job, 'page');
    with looked as materialized (
        select resource, id, reason from @extschema@.page_set_aside(p_job, p_state, p_only, p_resource, p_id, p_bound)
    )
    select json_build_object(
        'ids', coalesce((select json_agg(id order by id) from looked
            where p_digest is null or md5(reason) = p_digest), '[]'),
        'next', case when (select count(*) from looked) = p_bound then
            (select json_build_array(resource, id) from looked order by resource desc, id desc limit 1) end)
$$;

-- One job: its numbers, its workers with their leases, what waits and why, and what is set aside. Null where there is
-- no such job.
create or replace function @extschema@.page_job(p_job int) returns json language sql stable as $$
    select @extschema@.check_job(p_job, 'page');
    select json_build_object(
        'now', @extschema@.clock(), 'status', (select row_to_json(s) from @extschema@.job_status s where s.id = p_job),
        'oldest_at', @extschema@.page_oldest(p_job),
        'times', @extschema@.recent_times(p_job, 5), 'on_failure', j.on_failure, 'lease_seconds', j.lease_seconds,
            'delegated', j.delegated,
        'outstanding_max', j.outstanding_max, 'starts_max', j.starts_max, 'period_seconds', j.period_seconds,
        'delegator', (select d.name from @extschema@.delegator d where d.job_id = j.id
            and d.expires_at > @extschema@.clock()),
        'workers', @extschema@.page_workers(j.id, null, 50, 5),
        'ready', @extschema@.page_ready(j.id, 10), 'waiting', @extschema@.page_waiting(j, false, 10), 'for_person',
            @extschema@.page_waiting(j, true, 10),
        'dead', @extschema@.page_reasons(j.id, 'dead', 5), 'held', @extschema@.page_reasons(j.id, 'held', 5),
        'history', @extschema@.page_history(j, null, null))
    from @extschema@.job j where j.id = p_job
$$;

-- One worker of a job, with up to 1,000 leases. Null where there is none.
create or replace function @extschema@.page_worker(p_job int, p_worker bigint) returns json language sql stable as $$
    select @extschema@.check_job(p_job, 'page');
    select json_build_object('now', @extschema@.clock(), 'namespace', j.namespace, 'job_type', j.job_type,
        'worker', @extschema@.page_workers(j.id, p_worker, 1, 1000) -> 0)
    from @extschema@.job j where j.id = p_job and exists (select from @extschema@.worker w where w.id = p_worker
        and w.job_id = p_job)
$$;

-- One resource: what explain() says, since when it is ready, and its first units of each state. Null where there is no
-- such job.
create or replace function @extschema@.page_resource(p_job int, p_resource text) returns json language sql stable as $$
    select @extschema@.check_job(p_job, 'page');
    select json_build_object(
        'now', @extschema@.clock(), 'namespace', j.namespace, 'job_type', j.job_type, 'facts',
            @extschema@.explain(j.id, p_resource),
        'since', s.since, 'importance', s.importance, 'stripe_ready', s.ready,
        'ready', @extschema@.page_units(j.id, p_resource, 'ready', 20),
        'delayed', @extschema@.page_units(j.id, p_resource, 'delayed', 20),
        'held', @extschema@.page_units(j.id, p_resource, 'held', 20),
        'dead', @extschema@.page_units(j.id, p_resource, 'dead', 20),
        'history', @extschema@.page_history(j, p_resource, null))
    from @extschema@.job j left join lateral (
        select ready, importance, case when state = 'ready' then rank + importance * interval '1 minute' end as since
        from @extschema@.stripe where job_id = j.id and resource = p_resource
    ) s on true
    where j.id = p_job
$$;

-- One unit of a job; without a state where it is gone and has a history. Null where there is none.
create or replace function @extschema@.page_unit(p_job int, p_unit bigint) returns json language sql stable as $$
    select @extschema@.check_job(p_job, 'page');
    select json_build_object('now', @extschema@.clock(), 'namespace', j.namespace, 'job_type', j.job_type,
        'id', u.id, 'resource', u.resource, 'state', u.state, 'attempts', u.attempts, 'crashes', u.crashes,
            'importance', u.importance,
        'enqueued_at', u.enqueued_at, 'due_at', u.due_at, 'finished_at', u.finished_at, 'reason', u.reason, 'trace',
            u.trace,
        'payload_bytes', octet_length(u.payload), 'history', @extschema@.page_history(j, null, p_unit))
    from @extschema@.unit u join @extschema@.job j on j.id = u.job_id where u.id = p_unit and u.job_id = p_job
    union all select json_build_object('now', @extschema@.clock(), 'namespace', j.namespace, 'job_type', j.job_type,
        'id', p_unit, 'resource', g.resource, 'state', null, 'history', @extschema@.page_history(j, null, p_unit))
    from @extschema@.page_gone(p_unit) g join @extschema@.job j on j.id = g.job_id
    where g.job_id = p_job and not exists (select from @extschema@.unit where id = p_unit)
$$;

-- Where a name is a resource that has something to do or set aside, in the first 1,000 jobs by name or in one; the unit
-- of this id, also where it is gone and has a history; and in the first 100 jobs or in one, resources whose name begins
-- so.
create or replace function @extschema@.page_find(p_job int, p_resource text,
    p_unit bigint) returns json language sql stable as $$
    with jobs as materialized (
        select id, namespace, job_type from @extschema@.job
        where (p_job is null or id = p_job)
            and (not exists (select from @extschema@.permission) or @extschema@.may(namespace, job_type, 'page'))
        order by namespace, job_type limit 1000
    )
    select json_build_object(
        'unit', (select json_build_object('job', j.id, 'namespace', j.namespace, 'id', u.id)
            from (select job_id, id from @extschema@.unit where id = p_unit
                union all select job_id, p_unit from @extschema@.page_gone(p_unit)) u
            join jobs j on j.id = u.job_id limit 1),
        'begin', coalesce((select json_agg(json_build_object('id', j.id, 'namespace', j.namespace,
                'job_type', j.job_type, 'resource', n.resource) order by j.namespace, j.job_type, n.resource)
            from (select * from jobs order by namespace, job_type limit 100) j
            cross join lateral @extschema@.page_names(
                j.id, p_resource, case when p_job is null then 5 else 50 end) n(resource)), '[]'),
        'jobs', coalesce((select json_agg(row_to_json(j) order by j.namespace, j.job_type) from jobs j
            where 0 < any(array[
                (select job_id from @extschema@.stripe where job_id = j.id and resource = p_resource),
                (select job_id from @extschema@.unit where job_id = j.id and resource = p_resource
                    and state = 'ready' limit 1),
                (select job_id from @extschema@.unit where job_id = j.id and resource = p_resource
                    and state = 'delayed' limit 1),
                (select job_id from @extschema@.unit where job_id = j.id and resource = p_resource
                    and state = 'held' limit 1),
                (select job_id from @extschema@.unit where job_id = j.id and resource = p_resource
                    and state = 'dead' limit 1)])), '[]'))
$$;

-- The name of a job. Null where there is none.
create or replace function @extschema@.page_name(p_job int) returns json language sql stable as $$
    select @extschema@.check_job(p_job, 'page');
    select json_build_object('namespace', namespace, 'job_type', job_type) from @extschema@.job where id = p_job
$$;
