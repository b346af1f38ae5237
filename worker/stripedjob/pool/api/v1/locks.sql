-- The locks of the backend Postgres: what workers call, and whoever else takes the same lock.

-- Takes the locks that are free, have ended or are held under the same token, for so many ms; for each, in the order in
-- which they were asked for: 0, it is granted, else the ms for which the holder keeps it. In the database's time. Rows
-- are locked in the order of `resource`: two batches that share resources never wait for each other in a circle.
create or replace function @extschema@.acquire_locks(
    p_namespace text, p_job_type text, p_resources text[], p_tokens text[], p_ttl_ms bigint
) returns setof bigint language plpgsql as $$
begin
    perform @extschema@.check_name(p_namespace, p_job_type, 'locks');
    return query
    with asked as (
        select a.resource, a.token, a.place
        from unnest(p_resources, p_tokens) with ordinality a(resource, token, place)
    ), granted as (
        insert into @extschema@.lock as held (namespace, job_type, resource, token, expires_at)
        select p_namespace, p_job_type, resource, token, @extschema@.clock() + p_ttl_ms * interval '1 ms'
        from asked order by resource collate "C"
        on conflict (namespace, job_type, resource) do update
            set token = excluded.token, expires_at = excluded.expires_at
            where held.token = excluded.token or held.expires_at <= @extschema@.clock()
        returning resource
    )
    select case
        when g.resource is not null then 0
        -- What this statement's snapshot does not show was taken a moment ago: assume a lock of our own length.
        when held.expires_at is null or held.expires_at <= @extschema@.clock() then p_ttl_ms
        else ceil(extract(epoch from held.expires_at - @extschema@.clock()) * 1000)
    end::bigint
    from asked a left join granted g using (resource) left join @extschema@.lock held
        on held.namespace = p_namespace and held.job_type = p_job_type and held.resource = a.resource
    order by a.place;
end
$$;

-- Ends the locks that are held under these tokens, and no others; for each, in the order in which they were asked for:
-- whether it was.
create or replace function @extschema@.release_locks(
    p_namespace text, p_job_type text, p_resources text[], p_tokens text[]
) returns setof boolean language plpgsql as $$
begin
    perform @extschema@.check_name(p_namespace, p_job_type, 'locks');
    return query
    with asked as (
        select a.resource, a.token, a.place
        from unnest(p_resources, p_tokens) with ordinality a(resource, token, place)
    ), mine as materialized (
        select held.resource from @extschema@.lock held
        join asked a on held.resource = a.resource and held.token = a.token
        where held.namespace = p_namespace and held.job_type = p_job_type
        order by held.resource collate "C" for update of held
    ), released as (
        delete from @extschema@.lock
        where namespace = p_namespace and job_type = p_job_type and resource = any(array(select resource from mine))
        returning resource
    )
    select r.resource is not null from asked a left join released r using (resource) order by a.place;
end
$$;
