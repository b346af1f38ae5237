-- What the operator asks for many jobs at once, and what the clock does.

-- The numbers of these jobs, in one call for all; upkeep comes first for those that have something to be kept up and no live worker to do it.
create or replace function @extschema@.tend(p_jobs int[]) returns setof @extschema@.job_status language plpgsql as $$
begin
    perform @extschema@.upkeep(j.id) from @extschema@.job j
    where j.id = any(p_jobs)
        and not exists (select from @extschema@.worker w where w.job_id = j.id and w.expires_at >= clock_timestamp())
        and (j.cleaned_at < clock_timestamp() - interval '30 seconds'
            or exists (select from @extschema@.worker w where w.job_id = j.id)
            or exists (select from @extschema@.wake w where w.job_id = j.id)
            or exists (select from @extschema@.unit u where u.job_id = j.id and u.state = 'delayed' and u.due_at <= clock_timestamp())
            or exists (select from @extschema@.stripe s where s.job_id = j.id and s.state = 'waiting' and s.next_at <= clock_timestamp()));
    return query select * from @extschema@.job_status s where s.id = any(p_jobs) order by s.id;
end
$$;

-- Enqueues what the clock asks for, once a period however many ask: the rows (resource, payload) of the query, or one unit named like the job.
-- Returns how many units, or null where this period has been served. The first call with a new schedule only begins it: no catching up.
create or replace function @extschema@.fire(p_job int, p_schedule text, p_due timestamptz, p_query text) returns bigint language plpgsql as $$
declare
    j @extschema@.job;
    n bigint;
    period_id text;
begin
    update @extschema@.job set schedule = p_schedule, scheduled_at = clock_timestamp()
    where id = p_job and schedule is distinct from p_schedule;
    if found then
        return null;
    end if;
    update @extschema@.job set scheduled_at = p_due where id = p_job and scheduled_at < p_due returning * into j;
    if j.id is null then
        return null;
    end if;
    if j.deduplicate_content then -- what comes anew each period is no duplicate
        period_id := format('schedule %s ', p_due at time zone 'UTC');
    end if;
    if p_query is null then
        perform @extschema@.enqueue(j.job_type, j.job_type, namespace => j.namespace, dedup_id => period_id);
        return 1;
    end if;
    execute format('select count(@extschema@.enqueue(%L, resource, payload, namespace => %L, dedup_id => %L || n)) from (
        select q.resource::text, q.payload::json, row_number() over () n from (%s) q(resource, payload)) numbered',
        j.job_type, j.namespace, period_id, rtrim(p_query, E'; \n\t')) into n;
    return n;
end
$$;
