-- What people ask who may also see what is in units.

-- The payloads of these units, as they were enqueued; of the first 1,000 of them that are there.
create or replace function @extschema@.payloads(p_job int, p_ids bigint[]) returns table (id bigint, payload text)
    language sql stable as $$
    select @extschema@.check_job(p_job, 'payloads');
    select u.id, u.payload from @extschema@.unit u
    where u.id = any(p_ids) and u.job_id is not distinct from p_job order by u.id limit 1000
$$;
