-- How idle workers hear that there is something for them: NOTIFY striped_<job>, with the ids of those who are to come, or '*' for all. Nothing
-- depends on it: who hears nothing asks by itself, now and then.

-- Calls idle workers, as many as there are resources for and slots free.
create or replace function @extschema@.notify_idle(p_job int, p_resources int) returns void language plpgsql as $$
declare
    bound constant int := 64; -- of those who are called at once: each calls others for what it leaves
    wanted int;
    idle bigint[];
begin
    select least(p_resources, bound, j.schedule_limit - count(*) filter (where o.working)),
        array_agg(o.id order by random()) filter (where not o.working)
    into wanted, idle
    from @extschema@.job j join @extschema@.worker o on o.job_id = j.id where j.id = p_job group by j.id;
    if wanted > 0 and idle is not null then
        perform pg_notify('striped_' || p_job, array_to_string(idle[1:wanted], ','));
    end if;
end
$$;

-- Calls the delegator: NOTIFY striped_<job>_delegator.
create or replace function @extschema@.notify_delegator(p_job int) returns void language sql as $$
    select pg_notify('striped_' || p_job || '_delegator', '')
$$;

-- At the end of a transaction that put units in: somebody idle is called, once for each statement. NOTIFY makes the commits of those who use
-- it wait for each other, so of the transactions that end at the same time one does; whoever comes sees the units of most others, and
-- idle workers ask again. It runs with the rights of the pool's owner: who puts units in need not see workers.
create or replace function @extschema@.call_somebody() returns trigger language plpgsql
security definer set search_path = pg_catalog, pg_temp as $$
declare
    is_delegated boolean;
begin
    select delegated into is_delegated from @extschema@.job
    where id = new.job_id and exists (
        select from @extschema@.worker o where o.job_id = new.job_id and (not o.working or o.lacks > 0));
    if is_delegated is null or not pg_try_advisory_xact_lock(hashtext('@extschema@ calls'), new.job_id) then
        return null;
    end if;
    if is_delegated then
        perform @extschema@.notify_delegator(new.job_id);
    else
        perform @extschema@.notify_idle(new.job_id, 1);
    end if;
    return null;
end
$$;
