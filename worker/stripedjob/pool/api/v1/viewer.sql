-- What people ask; nothing here changes anything, nor gives a payload.

-- Whether nothing is left to do: held and dead units, and resources that wait for a held one or are paused, do not
-- count.
create or replace function @extschema@.is_empty(p_job int) returns boolean language sql stable as $$
    select @extschema@.check_job(p_job, 'viewer');
    select not exists (select from @extschema@.wake where job_id = p_job)
        and not exists (select from @extschema@.unit where job_id = p_job and state = 'delayed')
        and not exists (select from @extschema@.unit where job_id = p_job and cancelled is not null)
        and not exists (select from @extschema@.stripe where job_id = p_job and state = 'ready')
        and not exists (select from @extschema@.stripe where job_id = p_job and state = 'waiting'
            and next_at < 'infinity')
        and not exists (select from @extschema@.worker w
            join @extschema@.stripe s on s.worker_id = w.id and s.state = 'leased' where w.job_id = p_job)
        and not @extschema@.has_assigned(p_job)
$$;

-- Why a resource is or is not worked on: the facts, as one JSON object. `stripedjob explain` puts them in words.
-- It counts as far as 10,000.
create or replace function @extschema@.explain(p_job int, p_resource text) returns json language sql stable as $$
    select @extschema@.check_job(p_job, 'viewer');
    select json_build_object(
        'resource', p_resource,
        'limit', j.schedule_limit,
        'now', @extschema@.clock(),
        'workers', (select count(*) from @extschema@.worker w where w.job_id = j.id),
        'working', (select count(*) from @extschema@.worker w where w.job_id = j.id and w.working),
        'state', s.state,
        'woken', s.woken,
        'crashes', s.crashes,
        'fence', case when s.state = 'leased' then s.fence end,
        'assigned_at', case when s.state = 'assigned' then s.assigned_at end,
        'leased_at', case when s.state = 'leased' then s.leased_at end,
        'worker', w.name,
        'worker_id', w.id,
        'lease_ends_at', w.expires_at,
        'delegated', j.delegated,
        'delegator',
        (select d.name from @extschema@.delegator d where d.job_id = j.id and d.expires_at > @extschema@.clock()),
        'area', case when j.outstanding_max is not null then s.area end,
        'outstanding_max', j.outstanding_max,
        'outstanding', case when j.outstanding_max is not null
            and s.area is not null then (select count(*) from @extschema@.stripe o
            where o.job_id = j.id and o.area = s.area and o.state in ('assigned', 'leased')) end,
        'token_at', case when j.outstanding_max is not null and s.area is not null then (
            select a.refilled_at + make_interval(secs => (1 - a.tokens) * j.period_seconds / j.starts_max)
            from @extschema@.area a where a.job_id = j.id and a.area = s.area and a.tokens < 1) end,
        'next_at', nullif(s.next_at, 'infinity'),
        'waits_for_person', s.next_at = 'infinity',
        'paused', (select json_build_object('who', k.who, 'why', k.why, 'at', k.at) from @extschema@.pause k
            where k.job_id = j.id and k.resource = p_resource),
        'job_paused', case when j.paused_at is not null then
            json_build_object('who', j.paused_by, 'why', j.paused_why, 'at', j.paused_at) end,
        'breaker', case when j.open_until is not null then json_build_object('until', j.open_until,
            'failures', j.alike, 'kind', j.alike_kind, 'probe', case when @extschema@.breaker_admits(j) = 0
            then j.probe_resource end) end,
        'ahead', (select count(*) from (select from @extschema@.stripe o
            where o.job_id = j.id and o.state = 'ready' and s.state = 'ready' and o.rank < s.rank limit 10000) o),
        'arriving', (select coalesce(sum(units), 0) from (
            select resource, units from @extschema@.wake where job_id = j.id limit 10000) k
                where k.resource = p_resource),
        'ready', (select count(*) from (select from @extschema@.unit u
            where u.job_id = j.id and u.resource = p_resource and u.state = 'ready' limit 10000) u),
        'delayed', (select count(*) from (select from @extschema@.unit u
            where u.job_id = j.id and u.resource = p_resource and u.state = 'delayed' limit 10000) u),
        'next_due_at', (select min(due_at) from (select due_at from @extschema@.unit u
            where u.job_id = j.id and u.resource = p_resource and u.state = 'delayed' limit 10000) u),
        'held', (select count(*) from (select from @extschema@.unit u
            where u.job_id = j.id and u.resource = p_resource and u.state = 'held' limit 10000) u),
        'dead', (select count(*) from (select from @extschema@.unit u
            where u.job_id = j.id and u.resource = p_resource and u.state = 'dead' limit 10000) u),
        'head', (
            select json_build_object('id', u.id, 'attempts', u.attempts, 'crashes', u.crashes, 'reason', u.reason)
            from @extschema@.unit u where u.job_id = j.id and u.resource >= p_resource and u.resource <= p_resource
                and u.state = 'ready' order by resource, id limit 1
        ),
        'barrier', (
            select json_build_object('id', u.id, 'due_at', u.due_at) from @extschema@.unit u
            where u.job_id = j.id and u.resource >= p_resource and u.resource <= p_resource and u.state = 'delayed'
                and j.on_failure = 'Block' order by resource, id limit 1
        ),
        'set_aside', (
            select json_agg(json_build_object('id', u.id, 'state', u.state, 'reason', u.reason, 'trace', u.trace)
                order by u.id)
            from (
                (select * from @extschema@.unit u where u.job_id = j.id and u.resource >= p_resource
                    and u.resource <= p_resource and u.state = 'held' order by resource, id limit 10)
                union all (select * from @extschema@.unit u where u.job_id = j.id and u.resource >= p_resource
                    and u.resource <= p_resource and u.state = 'dead' order by resource, id limit 10)
                order by id limit 10) u
        )
    )
    from @extschema@.job j
    left join @extschema@.stripe s on s.job_id = j.id and s.resource = p_resource
    left join @extschema@.worker w on w.id = s.worker_id
    where j.id = p_job
$$;

-- What a job waits for where nothing is to be claimed: one row, of the resource that goes on next, of the unit that is
-- due next, and how many resources wait for a person (counted as far as 10,000). Times are seconds from now; null where
-- it is never or nothing.
create or replace function @extschema@.waiting(p_job int) returns table (
    resource text, resource_seconds float8, resource_reason text, barrier bigint,
    unit bigint, unit_resource text, unit_seconds float8, unit_reason text, for_person bigint
) language sql stable as $$
    select @extschema@.check_job(p_job, 'viewer');
    select s.resource, extract(epoch from s.next_at - @extschema@.clock())::float8, h.reason, b.id,
        d.id, d.resource,
        case when d.due_at < 'infinity' then extract(epoch from d.due_at - @extschema@.clock())::float8 end, d.reason,
        p.n
    from @extschema@.job j
    left join lateral (
        select s.resource, s.next_at from @extschema@.stripe s
        where s.job_id = j.id and s.state = 'waiting' and s.next_at < 'infinity' order by s.next_at limit 1
    ) s on true
    left join lateral (
        select u.reason from @extschema@.unit u
        where u.job_id = j.id and u.resource >= s.resource and u.resource <= s.resource and u.state = 'ready'
        order by u.resource, u.id limit 1
    ) h on true
    left join lateral (
        select u.id from @extschema@.unit u
        where j.on_failure = 'Block' and u.job_id = j.id and u.resource >= s.resource and u.resource <= s.resource
            and u.state = 'delayed'
        order by u.resource, u.id limit 1
    ) b on true
    left join lateral (
        select u.id, u.resource, u.due_at, u.reason from @extschema@.unit u
        where u.job_id = j.id and u.state = 'delayed' and u.due_at is not null order by u.due_at limit 1
    ) d on true
    cross join lateral (
        select count(*) n from (
            select from @extschema@.stripe s where s.job_id = j.id and s.state = 'waiting' and s.next_at = 'infinity'
                limit 10000) x
    ) p
    where j.id = p_job
$$;

-- What the pool judges a job by, but for a pause of it, as one JSON object; null: there is no such job.
create or replace function @extschema@.job_settings(p_namespace text, p_job_type text) returns json
    language plpgsql stable as $$
begin
    perform @extschema@.check_name(p_namespace, p_job_type, 'viewer');
    return (
        select json_build_object('namespace', namespace, 'job_type', job_type, 'generation', generation,
            'schedule_limit', coalesce(limit_unpaused, schedule_limit), 'importance', importance,
            'lease_seconds', lease_seconds,
            'crash_threshold', crash_threshold, 'on_failure', on_failure, 'completed_seconds', completed_seconds,
            'dead_seconds', dead_seconds, 'delegated', delegated, 'outstanding_max', outstanding_max,
            'starts_max', starts_max, 'period_seconds', period_seconds, 'area_label', area_label,
            'deduplicate_content', deduplicate_content, 'breaker_failures', breaker_failures,
            'backoff_seconds', backoff_seconds, 'backoff_seconds_max', backoff_seconds_max,
            'history_seconds', history_seconds)
        from @extschema@.job where namespace = p_namespace and job_type = p_job_type);
end
$$;

-- The numbers of these jobs, or of all that one may look at: a row for each, with the columns of the view job_status.
create or replace function @extschema@.job_statuses(p_jobs int[] default null) returns setof @extschema@.job_status
    language plpgsql stable as $$
begin
    if p_jobs is null then
        return query select * from @extschema@.job_status s
            where not exists (select from @extschema@.permission)
                or @extschema@.may(s.namespace, s.job_type, 'viewer') order by s.id;
    else
        perform @extschema@.check_job(id, 'viewer') from unnest(p_jobs) id;
        return query select * from @extschema@.job_status s where s.id = any(p_jobs) order by s.id;
    end if;
end
$$;

-- The workers of a job: how they are called, whether they have a slot, and whether their lease is good.
create or replace function @extschema@.workers(p_job int) returns table (name text, working boolean, alive boolean)
    language sql stable as $$
    select @extschema@.check_job(p_job, 'viewer');
    select w.name, w.working, w.expires_at >= @extschema@.clock() from @extschema@.worker w
    where w.job_id = p_job order by w.id
$$;

-- A page of units: what matches of the p_bound that are looked at after a place. In a state as a person sees it (ready,
-- leased, waiting, delayed, held, dead, done), null: all but done; of a resource; whose reason begins so; put in before
-- a time. The place is that of the last page's `next`: a resource, or for what is done a time, and an id; ('', 0) at
-- first. 'next' is null where nothing follows; a page may be short, or empty, and yet have a next one.
create or replace function @extschema@.list_units(
    p_job int, p_state text, p_resource text, p_reason text, p_before timestamptz, p_after_resource text,
    p_after_id bigint, p_bound int
) returns json language sql stable as $$
    select @extschema@.check_job(p_job, 'viewer');
    with looked as materialized (
        select u.*, case when u.state = 'done' then to_json(u.finished_at) #>> '{}' else u.resource end as place,
            row_number() over () as n
        from @extschema@.listed(p_job, p_state, p_resource, p_after_resource, p_after_id, p_bound) u
    ), shown as (
        select l.*, @extschema@.shown_state(l.state, s.state) as stands, s.next_at, s.paused
        from looked l left join lateral (select * from @extschema@.stripe
            where l.state = 'ready' and job_id = p_job and resource = l.resource limit 1) s on true
    )
    select json_build_object(
        'now', @extschema@.clock(), 'looked', (select count(*) from looked),
        'units', coalesce((select json_agg(json_build_object(
            'id', s.id, 'resource', s.resource, 'state', s.stands, 'attempts', s.attempts, 'crashes', s.crashes,
            'enqueued_at', s.enqueued_at, 'age_seconds',
            extract(epoch from @extschema@.clock() - s.enqueued_at)::float8,
            'due_at', case when s.state = 'delayed' then s.due_at when s.stands = 'waiting' then s.next_at end,
            'finished_at', s.finished_at, 'reason', coalesce(s.cancelled, s.reason),
            'is_paused', coalesce(s.paused, false)) order by s.n)
            from shown s where (p_state is null or s.stands = p_state)
                and (p_resource is null or s.resource = p_resource)
                and (p_before is null or s.enqueued_at < p_before)
                and (p_reason is null or starts_with(coalesce(s.cancelled, s.reason), p_reason))), '[]'),
        'next', case when (select count(*) from looked) = p_bound then
            (select json_build_array(s.place, s.id) from shown s order by s.n desc limit 1) end)
$$;

-- What is in a job's way: when the oldest unit was put in that waits for a worker, why most units are dead or held, and
-- which resources wait longest for a worker, wait for a time, and wait for a person, with why; p_bound of each.
create or replace function @extschema@.outlook(p_job int, p_bound int) returns json language sql stable as $$
    select @extschema@.check_job(p_job, 'viewer');
    select json_build_object('now', @extschema@.clock(), 'oldest_at', o.at,
        'oldest_seconds', date_part('epoch', @extschema@.clock() - o.at),
        'dead', @extschema@.page_reasons(j.id, 'dead', p_bound),
        'held', @extschema@.page_reasons(j.id, 'held', p_bound),
        'ready', @extschema@.page_ready(j.id, p_bound), 'waiting', @extschema@.page_waiting(j, false, p_bound),
        'for_person', @extschema@.page_waiting(j, true, p_bound))
    from @extschema@.job j, lateral (select @extschema@.page_oldest(j.id) as at) o where j.id = p_job
$$;

-- How many units waited and ran how long in the last minutes, 60 at most, as workers have said: see recent_times().
create or replace function @extschema@.times(p_job int, p_minutes int default 5) returns json language sql stable as $$
    select @extschema@.check_job(p_job, 'viewer');
    select @extschema@.recent_times(p_job, p_minutes)
$$;

-- Where these units stand, for what was asked of each: those that are not there any more are left out.
create or replace function @extschema@.unit_states(p_job int, p_ids bigint[])
    returns table (id bigint, state text, reason text) language sql stable as $$
    select @extschema@.check_job(p_job, 'viewer');
    select u.id, u.state::text, u.reason from @extschema@.unit u where u.id = any(p_ids) and u.job_id = p_job
$$;

-- What happened to a resource, its units, and the job as a whole, where the job keeps a history; p_resource null: to
-- the job as a whole alone. A page of at most p_bound events, 1,000 at most, before this id, null: the newest; as
-- told_page() gives it.
create or replace function @extschema@.resource_history(p_job int, p_resource text, p_before bigint, p_bound int)
    returns json language sql stable as $$
    select @extschema@.check_job(p_job, 'viewer');
    select @extschema@.told_page(p_job, array(
        select e from @extschema@.resource_events(p_job, p_resource, coalesce(p_before, 9223372036854775807),
            least(p_bound, 1000)) e), least(p_bound, 1000))
$$;

-- What happened to a unit, also where it is done and gone, and meanwhile to its resource and the job as a whole; as
-- above.
create or replace function @extschema@.unit_history(p_job int, p_unit bigint, p_before bigint, p_bound int)
    returns json language sql stable as $$
    select @extschema@.check_job(p_job, 'viewer');
    select @extschema@.told_page(p_job, array(
        select e from @extschema@.unit_events(p_job, p_unit, coalesce(p_before, 9223372036854775807),
            least(p_bound, 1000)) e), least(p_bound, 1000))
$$;

-- Who holds the lock of a resource, as [token, ms that are left]; null where nobody does.
create or replace function @extschema@.look_lock(p_namespace text, p_job_type text, p_resource text) returns json
    language sql stable as $$
    select @extschema@.check_name(p_namespace, p_job_type, 'viewer');
    select json_build_array(token, ceil(extract(epoch from expires_at - @extschema@.clock()) * 1000)::bigint)
    from @extschema@.lock
    where namespace = p_namespace and job_type = p_job_type and resource = p_resource
        and expires_at > @extschema@.clock()
$$;
