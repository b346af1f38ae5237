-- How units come in: inside the caller's own transaction.

-- Every inserted unit wakes its resource, and begins its history, whichever way it was inserted: COPY, INSERT or
-- enqueue().
create or replace function @extschema@.wake_inserted() returns trigger language plpgsql as $$
begin
    -- By their first units: resources are worked on in the order in which they came.
    insert into @extschema@.wake (job_id, resource, units, importance, delayed, calls)
    select i.job_id, i.woken, count(*) filter (where i.woken <> ''), max(i.importance),
        count(*) filter (where i.woken = ''),
        row_number() over (partition by i.job_id order by min(i.id)) = 1
    from (
        select id, job_id, importance,
            case when state = 'ready' then resource else '' end woken -- a resource has a name
        from inserted where state in ('ready', 'delayed')
    ) i group by i.job_id, i.woken order by i.job_id, min(i.id);
    if exists (select from @extschema@.job where history_seconds > 0) then
        insert into @extschema@.history (slot, at, job_id, event, resource, unit, state)
        select (select slot from @extschema@.history_ring), (select @extschema@.clock()), i.job_id, 'enqueued',
            i.resource, i.id, i.state
        from inserted i join @extschema@.job j on j.id = i.job_id and j.history_seconds > 0
        order by i.id;
    end if;
    return null;
end
$$;

create or replace trigger wake after insert on @extschema@.unit
    referencing new table as inserted for each statement execute function @extschema@.wake_inserted();

-- How long a deduplication id is good for, as in SQS FIFO.
create or replace function @extschema@.dedup_window() returns interval
    language sql immutable as $$ select interval '5 minutes' $$;

-- What stands for a unit's content as its deduplication id: its resource and its payload, however the JSON is spaced or
-- its keys are ordered. JSON that is no jsonb (\u0000, half a surrogate pair, a number out of its range) is taken as it
-- is written.
create or replace function @extschema@.content_id(p_resource text, p_payload json) returns text
    language plpgsql stable as $$
declare
    content text;
begin
    begin
        content := p_payload::jsonb::text;
    exception when data_exception or program_limit_exceeded then
        content := p_payload::text;
    end;
    return 'sha256:' || encode(
        sha256(convert_to(p_resource, 'UTF8') || decode('00', 'hex') || convert_to(content, 'UTF8')), 'hex');
end
$$;

-- A W3C Trace Context as it is kept: whatever else is given is none, since nothing of a trace may keep a unit out.
create or replace function @extschema@.trace_context(p_given text) returns text language sql immutable as $$
    select case when p_given ~ '^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$' then p_given end
$$;

-- What enqueue_rows() does, once it is known which job it is and that it may be.
create or replace function @extschema@.put_rows(
    j @extschema@.job, p_resources text[], p_payloads text[], p_importances int[], p_due_ats timestamptz[],
    p_dedup_ids text[], p_traceparents text[] default null
) returns bigint language plpgsql as $$
declare
    ids regclass := pg_get_serial_sequence('@extschema@.unit', 'id');
    n bigint;
begin
    with given as materialized ( -- the order of the ids is that of the rows
        select nextval(ids) as id, r.resource, coalesce(r.payload, 'null')::json as payload, r.importance, r.due_at,
            @extschema@.trace_context(r.traceparent) as traceparent,
            case when r.dedup_id is null and j.deduplicate_content
                then @extschema@.content_id(r.resource,
                    coalesce(r.payload, 'null')::json) else r.dedup_id end as dedup_id
        from unnest(p_resources, p_payloads, p_importances, p_due_ats, p_dedup_ids, p_traceparents) with ordinality
            r(resource, payload, importance, due_at, dedup_id, traceparent, n)
        order by r.n
    ), fresh as (
        insert into @extschema@.dedup as d (job_id, dedup_id, unit_id, expires_at)
        select j.id, g.dedup_id, min(g.id), @extschema@.clock() + @extschema@.dedup_window()
        from given g where g.dedup_id is not null group by g.dedup_id order by g.dedup_id
        on conflict (job_id, dedup_id) do update
            set unit_id = excluded.unit_id, expires_at = excluded.expires_at where d.expires_at <= @extschema@.clock()
        returning d.unit_id
    )
    insert into @extschema@.unit (id, job_id, resource, state, importance, due_at, payload, traceparent)
    overriding system value
    select g.id, j.id, g.resource,
        case when g.due_at > @extschema@.clock() then 'delayed' else 'ready' end::@extschema@.unit_state,
        coalesce(g.importance, j.importance), g.due_at, g.payload, g.traceparent
    from given g
    where g.dedup_id is null or g.id in (select unit_id from fresh)
    order by g.id;
    get diagnostics n = row_count;
    return n;
end
$$;
