-- What the clock does.

-- Enqueues what the clock asks for, once a period however many ask: the rows (resource, payload) of the query, or one unit named like the job.
-- Returns how many units, or null where this period has been served or somebody is at it. The first call with a new schedule only begins it:
-- no catching up. The query runs with the rights and the search_path of the session's role, bounded by its statement_timeout. Meanwhile the
-- schedule's turn is locked, and nothing else: what workers do goes on however long it takes. Its text is taken as it is.
create or replace function @extschema@.fire(p_job int, p_schedule text, p_due timestamptz, p_query text) returns bigint language plpgsql as $$
declare
    j @extschema@.job;
    served @extschema@.turn;
    found_rows refcursor;
    next_resource text;
    next_payload text;
    resources text[] := '{}';
    payloads text[] := '{}';
    n bigint := 0;
begin
    select * into served from @extschema@.turn where job_id = p_job and kind = 'schedule' for no key update skip locked;
    if served.job_id is null then
        return null;
    elsif served.detail is distinct from p_schedule then
        update @extschema@.turn set detail = p_schedule, at = clock_timestamp() where job_id = p_job and kind = 'schedule';
        return null;
    elsif served.at >= p_due then
        return null;
    end if;
    select * into j from @extschema@.job where id = p_job;
    if p_query is null then
        n := @extschema@.enqueue_scheduled(j, p_due, 0, array[j.job_type], '{null}');
    else
        set local search_path to default;
        set local enable_seqscan to default;
        open found_rows for execute p_query;
        loop
            fetch found_rows into next_resource, next_payload;
            if found then
                resources := resources || next_resource;
                payloads := payloads || next_payload;
            end if;
            if not found or cardinality(resources) = 1000 then
                n := n + @extschema@.enqueue_scheduled(j, p_due, n, resources, payloads);
                exit when cardinality(resources) < 1000;
                resources := '{}';
                payloads := '{}';
            end if;
        end loop;
        close found_rows;
    end if;
    update @extschema@.turn set at = p_due where job_id = p_job and kind = 'schedule';
    return n;
end
$$;

-- Enqueues rows of a schedule, the first of which is the (p_before + 1)th of its period. Each period's are new ones also in a job that
-- deduplicates by content.
create or replace function @extschema@.enqueue_scheduled(j @extschema@.job, p_due timestamptz, p_before bigint, p_resources text[], p_payloads text[])
returns bigint language sql as $$
    select count(@extschema@.enqueue(j.job_type, r.resource, coalesce(r.payload, 'null')::json, namespace => j.namespace,
        dedup_id => case when j.deduplicate_content then format('schedule %s %s', p_due at time zone 'UTC', p_before + r.n) end))
    from unnest(p_resources, p_payloads) with ordinality r(resource, payload, n)
$$;
