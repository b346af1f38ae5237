-- What the clock does.

-- Enqueues rows of a schedule, the first of which is the (p_before + 1)th of its period; returns how many. Each
-- period's are new ones also in a job that deduplicates by content.
create or replace function @extschema@.enqueue_scheduled(j @extschema@.job, p_due timestamptz, p_before bigint,
    p_resources text[], p_payloads text[])
returns bigint language sql as $$
    select @extschema@.put_rows(j, p_resources, p_payloads, null, null,
        case when j.deduplicate_content then array(
            select format('schedule %s %s', p_due at time zone 'UTC', p_before + n)
            from generate_series(1, cardinality(p_resources)) n order by n) end)
$$;
