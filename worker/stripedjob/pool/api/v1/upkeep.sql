-- What keeps a pool moving, for all that work in it or look after it.

-- Wakes what is due, takes back what the dead held, and folds in what has come: cheap where there is nothing to do.
create or replace function @extschema@.upkeep(p_job int) returns void language plpgsql as $$
begin
    perform @extschema@.check_job(p_job, 'upkeep');
    perform @extschema@.keep(p_job);
end
$$;

-- Removes what has been kept for as long as it should be. True: that was not all, and it is worth a call at once.
create or replace function @extschema@.clean(p_job int) returns boolean language plpgsql as $$
declare
    bound constant int := 2000;
    this_moment constant timestamptz := @extschema@.clock();
    j @extschema@.job;
    dead int;
    places tid[];
    n int;
    more boolean;
begin
    perform @extschema@.check_job(p_job, 'upkeep');
    if not exists (select from @extschema@.turn where job_id = p_job and kind = 'clean'
        and at < @extschema@.clock() - interval '30 seconds')
        or not @extschema@.take_turn(p_job, 'clean') then
        return false;
    end if;
    select * into j from @extschema@.job where id = p_job;
    more := @extschema@.expire_units(p_job, 'done', j.completed_seconds, bound) = bound;
    dead := @extschema@.expire_units(p_job, 'dead', j.dead_seconds, bound);
    places := array(
        select ctid from @extschema@.dedup
        where job_id = p_job and expires_at > '-infinity' and expires_at <= this_moment
        order by expires_at limit bound for update skip locked);
    delete from @extschema@.dedup where ctid = any(places);
    get diagnostics n = row_count;
    more := more or dead = bound or n = bound;
    more := @extschema@.expire_areas(j, bound) = bound or more;
    perform @extschema@.sweep_orphans(p_job);
    perform @extschema@.expire_times(p_job);
    update @extschema@.turn set at = @extschema@.clock() where job_id = p_job and kind = 'clean' and not more;
    if dead > 0 then
        update @extschema@.flow set dead_out = dead_out + dead where job_id = p_job;
    end if;
    if not more then
        perform @extschema@.correct_flow(p_job);
    end if;
    perform @extschema@.turn_history();
    return more;
end
$$;
