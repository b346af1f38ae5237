-- What the clock does.

-- Enqueues rows of a schedule, the first of which is the (p_before + 1)th of its period. Each period's are new ones
-- also in a job that deduplicates by content.
create or replace function @extschema@.enqueue_scheduled(j @extschema@.job, p_due timestamptz, p_before bigint,
    p_resources text[], p_payloads text[])
returns bigint language sql as $$
    select count(@extschema@.enqueue(j.job_type, r.resource, coalesce(r.payload, 'null')::json,
        namespace => j.namespace,
        dedup_id => case when j.deduplicate_content then format('schedule %s %s', p_due at time zone 'UTC',
            p_before + r.n) end))
    from unnest(p_resources, p_payloads) with ordinality r(resource, payload, n)
$$;
