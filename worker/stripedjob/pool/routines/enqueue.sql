-- How units come in: inside the caller's own transaction.

-- Every inserted unit wakes its resource, whichever way it was inserted: COPY, INSERT or enqueue().
create or replace function @extschema@.wake_inserted() returns trigger language plpgsql as $$
begin
    insert into @extschema@.wake (job_id, resource, units, importance)
    select job_id, resource, count(*), max(importance) from inserted where state = 'ready' group by job_id, resource;
    insert into @extschema@.wake (job_id, resource, units, importance, delayed)
    select job_id, '', 0, 0, count(*) from inserted where state = 'delayed' group by job_id;
    return null;
end
$$;
create or replace trigger wake after insert on @extschema@.unit
    referencing new table as inserted for each statement execute function @extschema@.wake_inserted();

-- The id of a job, or an error that says what to do.
create or replace function @extschema@.job_id(p_namespace text, p_job_type text) returns int language plpgsql stable as $$
declare
    found_id int;
begin
    select id into found_id from @extschema@.job where namespace = p_namespace and job_type = p_job_type;
    if found_id is null then
        raise exception 'there is no job type "%" in namespace "%"', p_job_type, p_namespace
            using errcode = 'no_data_found', hint = 'Apply its StripedJob first, or run "stripedjob migrate FILE".';
    end if;
    return found_id;
end
$$;

-- How long a deduplication id is good for, as in SQS FIFO.
create or replace function @extschema@.dedup_window() returns interval language sql immutable as $$ select interval '5 minutes' $$;

-- What stands for a unit's content as its deduplication id: its resource and its payload, however the JSON is spaced or its keys are
-- ordered. Text with \u0000 is no jsonb, and is taken as it is.
create or replace function @extschema@.content_id(p_resource text, p_payload json) returns text language sql stable as $$
    select 'sha256:' || encode(sha256(convert_to(p_resource, 'UTF8') || '\x00' || convert_to(
        case when p_payload::text like '%\u0000%' escape '' then p_payload::text else p_payload::jsonb::text end, 'UTF8')), 'hex')
$$;

-- Puts one unit in and returns its id; with a deduplication id that is still good, the id of the unit it was first used for.
create or replace function @extschema@.enqueue(
    job_type text, resource text, payload json default 'null', importance int default null,
    due_at timestamptz default null, dedup_id text default null, namespace text default 'default'
) returns bigint language plpgsql as $$
#variable_conflict use_column
declare
    j @extschema@.job;
    new_id bigint := nextval(pg_get_serial_sequence('@extschema@.unit', 'id'));
    first_id bigint;
begin
    select * into j from @extschema@.job where id = @extschema@.job_id(enqueue.namespace, enqueue.job_type);
    payload := coalesce(enqueue.payload, 'null');
    if j.deduplicate_content and enqueue.dedup_id is null then
        dedup_id := @extschema@.content_id(enqueue.resource, enqueue.payload);
    end if;
    if enqueue.dedup_id is not null then
        insert into @extschema@.dedup as d (job_id, dedup_id, unit_id, expires_at)
        values (j.id, enqueue.dedup_id, new_id, clock_timestamp() + @extschema@.dedup_window())
        on conflict (job_id, dedup_id) do update
            set unit_id = excluded.unit_id, expires_at = excluded.expires_at where d.expires_at <= clock_timestamp();
        if not found then
            select unit_id into first_id from @extschema@.dedup d where d.job_id = j.id and d.dedup_id = enqueue.dedup_id;
            return first_id;
        end if;
    end if;
    insert into @extschema@.unit (id, job_id, resource, state, importance, due_at, payload) overriding system value
    values (new_id, j.id, enqueue.resource,
        case when enqueue.due_at > clock_timestamp() then 'delayed' else 'ready' end::@extschema@.unit_state,
        coalesce(enqueue.importance, j.importance), enqueue.due_at, enqueue.payload);
    return new_id;
end
$$;

-- Makes the temporary table that enqueue_staged reads, for COPY to fill. Ids are drawn here, so that they follow the order of the rows.
create or replace function @extschema@.stage() returns void language sql as $$
    create temporary table striped_staged (
        id bigint not null default nextval(pg_get_serial_sequence('@extschema@.unit', 'id')),
        resource text, payload json, importance int, due_at timestamptz, dedup_id text
    ) on commit drop
$$;

-- Puts in what was staged, and returns how many were new. Of rows with the same deduplication id the first counts.
create or replace function @extschema@.enqueue_staged(p_namespace text, p_job_type text) returns bigint language plpgsql as $$
declare
    j @extschema@.job;
    n bigint;
begin
    select * into j from @extschema@.job where id = @extschema@.job_id(p_namespace, p_job_type);
    if j.deduplicate_content then
        update striped_staged set dedup_id = @extschema@.content_id(resource, coalesce(payload, 'null')) where dedup_id is null;
    end if;
    with fresh as (
        insert into @extschema@.dedup as d (job_id, dedup_id, unit_id, expires_at)
        select j.id, s.dedup_id, min(s.id), clock_timestamp() + @extschema@.dedup_window()
        from striped_staged s where s.dedup_id is not null group by s.dedup_id order by s.dedup_id
        on conflict (job_id, dedup_id) do update
            set unit_id = excluded.unit_id, expires_at = excluded.expires_at where d.expires_at <= clock_timestamp()
        returning d.unit_id
    )
    insert into @extschema@.unit (id, job_id, resource, state, importance, due_at, payload) overriding system value
    select s.id, j.id, s.resource,
        case when s.due_at > clock_timestamp() then 'delayed' else 'ready' end::@extschema@.unit_state,
        coalesce(s.importance, j.importance), s.due_at,
        coalesce(s.payload, 'null')
    from striped_staged s
    where s.dedup_id is null or s.id in (select unit_id from fresh)
    order by s.id;
    get diagnostics n = row_count;
    drop table striped_staged;
    return n;
end
$$;
