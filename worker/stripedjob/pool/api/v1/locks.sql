-- The locks of the backend Postgres: what workers call, and whoever else takes the same lock.

-- Takes the locks that are free, have ended or are held under the same token, for so many ms; for each, in the order in
-- which they were asked for: 0, it is granted, else the ms for which the holder keeps it. In the database's time. Rows
-- are locked in the order of `resource`: two batches that share resources never wait for each other in a circle.
create or replace function @extschema@.acquire_locks(
    p_namespace text, p_job_type text, p_resources text[], p_tokens text[], p_ttl_ms bigint
) returns setof bigint language plpgsql as $$
begin
    perform @extschema@.check_name(p_namespace, p_job_type, 'locks');
    insert into @extschema@.lock as held (namespace, job_type, resource, token, expires_at)
    select p_namespace, p_job_type, a.resource, a.token, @extschema@.clock() + p_ttl_ms * interval '1 ms'
    from unnest(p_resources, p_tokens) a(resource, token) order by a.resource collate "C"
    on conflict (namespace, job_type, resource) do update
        set token = excluded.token, expires_at = excluded.expires_at
        where held.token = excluded.token or held.expires_at <= @extschema@.clock();
    return query
    select case
        when held.token = a.token then 0
        -- Who held it has given it back a moment ago: somebody else may be quicker.
        when held.expires_at is null or held.expires_at <= @extschema@.clock() then p_ttl_ms
        else ceil(extract(epoch from held.expires_at - @extschema@.clock()) * 1000)
    end::bigint
    from unnest(p_resources, p_tokens) with ordinality a(resource, token, place) left join lateral (
        select l.token, l.expires_at from @extschema@.lock l
        where l.namespace = p_namespace and l.job_type = p_job_type and l.resource = a.resource limit 1) held on true
    order by a.place;
end
$$;

-- Ends the locks that are held under these tokens, and no others; for each, in the order in which they were asked for:
-- whether it was.
create or replace function @extschema@.release_locks(
    p_namespace text, p_job_type text, p_resources text[], p_tokens text[]
) returns setof boolean language plpgsql as $$
declare
    places tid[];
    were_held boolean[];
begin
    perform @extschema@.check_name(p_namespace, p_job_type, 'locks');
    select array_agg(held.place) filter (where held.place is not null),
        array_agg(held.place is not null order by a.place)
    into places, were_held
    from (
        select * from unnest(p_resources, p_tokens) with ordinality a(resource, token, place)
        order by resource collate "C"
    ) a left join lateral (
        select ctid as place from @extschema@.lock l
        where l.namespace = p_namespace and l.job_type = p_job_type and l.resource = a.resource and l.token = a.token
        limit 1 for update) held on true;
    delete from @extschema@.lock where ctid = any(places);
    return query select unnest(were_held);
end
$$;
