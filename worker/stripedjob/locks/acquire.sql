-- Takes the locks that are free, expired or already held under the same token; per resource, in the order asked for:
-- 0 granted, else the ms for which the holder keeps it. One statement, in the database's time.
-- Rows are locked in the order of `resource`: two batches that share resources never wait for each other in a circle.
with asked as (
  select resource, token, place
    from unnest(%(resources)s::text[], %(tokens)s::text[]) with ordinality as a (resource, token, place)
),
granted as (
  insert into @extschema@.lock as held (namespace, job_type, resource, token, expires_at)
  select %(namespace)s, %(job_type)s, resource, token, clock_timestamp() + %(ttl_ms)s * interval '1 ms'
    from asked
   order by resource collate "C"
  on conflict (namespace, job_type, resource) do update
     set token = excluded.token, expires_at = excluded.expires_at
   where held.token = excluded.token or held.expires_at <= clock_timestamp()
  returning resource
)
select case
         when granted.resource is not null then 0
         -- What this statement's snapshot does not show was taken a moment ago: assume a lock of our own length.
         when held.expires_at is null or held.expires_at <= clock_timestamp() then %(ttl_ms)s
         else ceil(extract(epoch from held.expires_at - clock_timestamp()) * 1000)
       end::bigint as wait_ms
  from asked
  left join granted using (resource)
  left join @extschema@.lock as held
    on held.namespace = %(namespace)s and held.job_type = %(job_type)s and held.resource = asked.resource
 order by asked.place;
