-- How units come in: inside the caller's own transaction.

-- Puts one unit in and returns its id; with a deduplication id that is still good, the id of the unit it was first used
-- for. `traceparent`: see docs/tracing.md; what is none is left out.
create or replace function @extschema@.enqueue(
    job_type text, resource text, payload json default 'null', importance int default null,
    due_at timestamptz default null, dedup_id text default null, namespace text default 'default',
    traceparent text default null
) returns bigint language plpgsql as $$
#variable_conflict use_column
declare
    j record;
    new_id bigint;
    first_id bigint;
begin
    select id, importance, deduplicate_content, exists (select from @extschema@.permission) as limited into j
    from @extschema@.job j where j.namespace = enqueue.namespace and j.job_type = enqueue.job_type;
    if not found then
        perform @extschema@.job_id(enqueue.namespace, enqueue.job_type); -- which says so
    elsif j.limited then
        perform @extschema@.check_job(j.id, 'enqueuer');
    end if;
    payload := coalesce(enqueue.payload, 'null');
    if j.deduplicate_content and enqueue.dedup_id is null then
        dedup_id := @extschema@.content_id(enqueue.resource, enqueue.payload);
    end if;
    if enqueue.dedup_id is null then
        insert into @extschema@.unit (job_id, resource, state, importance, due_at, payload, traceparent)
        values (j.id, enqueue.resource,
            case when enqueue.due_at > @extschema@.clock() then 'delayed' else 'ready' end::@extschema@.unit_state,
            coalesce(enqueue.importance, j.importance), enqueue.due_at, enqueue.payload,
            @extschema@.trace_context(enqueue.traceparent))
        returning id into new_id;
        return new_id;
    end if;
    new_id := nextval(pg_get_serial_sequence('@extschema@.unit', 'id')); -- to look the sequence up has its price
    insert into @extschema@.dedup as d (job_id, dedup_id, unit_id, expires_at)
    values (j.id, enqueue.dedup_id, new_id, @extschema@.clock() + @extschema@.dedup_window())
    on conflict (job_id, dedup_id) do update
        set unit_id = excluded.unit_id, expires_at = excluded.expires_at where d.expires_at <= @extschema@.clock();
    if not found then
        select unit_id into first_id from @extschema@.dedup d
            where d.job_id = j.id and d.dedup_id = enqueue.dedup_id;
        return first_id;
    end if;
    insert into @extschema@.unit (id, job_id, resource, state, importance, due_at, payload, traceparent)
    overriding system value
    values (new_id, j.id, enqueue.resource,
        case when enqueue.due_at > @extschema@.clock() then 'delayed' else 'ready' end::@extschema@.unit_state,
        coalesce(enqueue.importance, j.importance), enqueue.due_at, enqueue.payload,
        @extschema@.trace_context(enqueue.traceparent));
    return new_id;
end
$$;

-- Puts many units in, in their order, and returns how many were new. Each argument is one column; a null array is a
-- column of nulls. Payloads are JSON texts, kept as they are written. Of rows with the same deduplication id the first
-- counts.
create or replace function @extschema@.enqueue_rows(
    p_namespace text, p_job_type text, p_resources text[], p_payloads text[], p_importances int[],
    p_due_ats timestamptz[], p_dedup_ids text[], p_traceparents text[] default null
) returns bigint language plpgsql as $$
declare
    j @extschema@.job;
begin
    select * into j from @extschema@.job where id = @extschema@.job_id(p_namespace, p_job_type);
    perform @extschema@.check_job(j.id, 'enqueuer');
    return @extschema@.put_rows(j, p_resources, p_payloads, p_importances, p_due_ats, p_dedup_ids,
        p_traceparents);
end
$$;
