-- How units come in: inside the caller's own transaction.

-- Puts one unit in and returns its id; with a deduplication id that is still good, the id of the unit it was first used
-- for.
create or replace function @extschema@.enqueue(
    job_type text, resource text, payload json default 'null', importance int default null,
    due_at timestamptz default null, dedup_id text default null, namespace text default 'default'
) returns bigint language plpgsql as $$
#variable_conflict use_column
declare
    j record;
    new_id bigint := nextval(pg_get_serial_sequence('@extschema@.unit', 'id'));
    first_id bigint;
begin
    select id, importance, deduplicate_content into j from @extschema@.job j
    where j.namespace = enqueue.namespace and j.job_type = enqueue.job_type;
    if not found then
        perform @extschema@.job_id(enqueue.namespace, enqueue.job_type); -- which says so
    end if;
    payload := coalesce(enqueue.payload, 'null');
    if j.deduplicate_content and enqueue.dedup_id is null then
        dedup_id := @extschema@.content_id(enqueue.resource, enqueue.payload);
    end if;
    if enqueue.dedup_id is not null then
        insert into @extschema@.dedup as d (job_id, dedup_id, unit_id, expires_at)
        values (j.id, enqueue.dedup_id, new_id, @extschema@.clock() + @extschema@.dedup_window())
        on conflict (job_id, dedup_id) do update
            set unit_id = excluded.unit_id, expires_at = excluded.expires_at where d.expires_at <= @extschema@.clock();
        if not found then
            select unit_id into first_id from @extschema@.dedup d
                where d.job_id = j.id and d.dedup_id = enqueue.dedup_id;
            return first_id;
        end if;
    end if;
    insert into @extschema@.unit (id, job_id, resource, state, importance, due_at, payload) overriding system value
    values (new_id, j.id, enqueue.resource,
        case when enqueue.due_at > @extschema@.clock() then 'delayed' else 'ready' end::@extschema@.unit_state,
        coalesce(enqueue.importance, j.importance), enqueue.due_at, enqueue.payload);
    return new_id;
end
$$;

-- Puts many units in, in their order, and returns how many were new. Each argument is one column; a null array is a
-- column of nulls. Payloads are JSON texts, kept as they are written. Of rows with the same deduplication id the first
-- counts.
create or replace function @extschema@.enqueue_rows(
    p_namespace text, p_job_type text, p_resources text[], p_payloads text[], p_importances int[],
    p_due_ats timestamptz[],
    p_dedup_ids text[]
) returns bigint language plpgsql as $$
declare
    j @extschema@.job;
    ids regclass := pg_get_serial_sequence('@extschema@.unit', 'id');
    n bigint;
begin
    select * into j from @extschema@.job where id = @extschema@.job_id(p_namespace, p_job_type);
    with given as materialized ( -- the order of the ids is that of the rows
        select nextval(ids) as id, r.resource, coalesce(r.payload, 'null')::json as payload, r.importance, r.due_at,
            case when r.dedup_id is null and j.deduplicate_content
                then @extschema@.content_id(r.resource,
                    coalesce(r.payload, 'null')::json) else r.dedup_id end as dedup_id
        from unnest(p_resources, p_payloads, p_importances, p_due_ats, p_dedup_ids) with ordinality
            r(resource, payload, importance, due_at, dedup_id, n)
        order by r.n
    ), fresh as (
        insert into @extschema@.dedup as d (job_id, dedup_id, unit_id, expires_at)
        select j.id, g.dedup_id, min(g.id), @extschema@.clock() + @extschema@.dedup_window()
        from given g where g.dedup_id is not null group by g.dedup_id order by g.dedup_id
        on conflict (job_id, dedup_id) do update
            set unit_id = excluded.unit_id, expires_at = excluded.expires_at where d.expires_at <= @extschema@.clock()
        returning d.unit_id
    )
    insert into @extschema@.unit (id, job_id, resource, state, importance, due_at, payload) overriding system value
    select g.id, j.id, g.resource,
        case when g.due_at > @extschema@.clock() then 'delayed' else 'ready' end::@extschema@.unit_state,
        coalesce(g.importance, j.importance), g.due_at, g.payload
    from given g
    where g.dedup_id is null or g.id in (select unit_id from fresh)
    order by g.id;
    get diagnostics n = row_count;
    return n;
end
$$;
