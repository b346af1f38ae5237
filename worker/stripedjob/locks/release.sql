-- Deletes the locks that are held under their token, and no others; per resource, in the order asked for: deleted?
-- Rows are locked in the order of `resource`, as acquire.sql does.
with asked as (
  select resource, token, place
    from unnest(%(resources)s::text[], %(tokens)s::text[]) with ordinality as a (resource, token, place)
),
mine as materialized (
  select held.resource
    from @extschema@.lock as held
    join asked on held.resource = asked.resource and held.token = asked.token
   where held.namespace = %(namespace)s and held.job_type = %(job_type)s
   order by held.resource collate "C"
     for update of held
),
released as (
  delete from @extschema@.lock
   where namespace = %(namespace)s and job_type = %(job_type)s
     and resource = any (array(select resource from mine))
  returning resource
)
select released.resource is not null as released
  from asked
  left join released using (resource)
 order by asked.place;
