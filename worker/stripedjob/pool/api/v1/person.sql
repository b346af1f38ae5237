-- What people change: units that were set aside.

-- Makes held or dead units ready again, with their attempts and crashes at 0: of the job, of one resource, or given
-- ids; at most p_bound of them. Returns how many. A resource that was waiting for one of them goes on when its wake is
-- folded.
create or replace function @extschema@.revive(p_job int, p_state @extschema@.unit_state, p_resource text,
    p_ids bigint[], p_bound int) returns int
language plpgsql as $$
declare
    n int;
    chosen bigint[];
begin
    perform @extschema@.check_job(p_job, 'person');
    chosen := @extschema@.set_aside(p_job, p_state, p_resource, p_ids, p_bound);
    with revived as (
        update @extschema@.unit set state = 'ready', attempts = 0, crashes = 0, finished_at = null, reason = null,
            trace = null
        where state = p_state and id = any(chosen)
        returning resource, importance
    ), woken as (
        insert into @extschema@.wake (job_id, resource, units, importance, calls)
        select p_job, resource, count(*), max(importance), row_number() over () = 1 from revived group by resource
            returning units
    )
    select coalesce(sum(units), 0) into n from woken;
    perform @extschema@.count_out(p_job, p_state, n);
    return n;
end
$$;

-- Removes held or dead units for good, at most p_bound of them. Returns how many. A resource that was waiting for one
-- of them is woken.
create or replace function @extschema@.purge(p_job int, p_state @extschema@.unit_state, p_resource text, p_ids bigint[],
    p_bound int) returns int
language plpgsql as $$
declare
    n int;
    chosen bigint[];
begin
    perform @extschema@.check_job(p_job, 'person');
    chosen := @extschema@.set_aside(p_job, p_state, p_resource, p_ids, p_bound);
    with gone as (
        delete from @extschema@.unit where state = p_state and id = any(chosen) returning resource
    ), woken as (
        insert into @extschema@.wake (job_id, resource, units, importance, calls)
        select p_job, g.resource, 0, 0, row_number() over () = 1 from (select distinct resource from gone) g
        where exists (select from @extschema@.stripe s where s.job_id = p_job and s.resource = g.resource
            and s.state = 'waiting')
    )
    select count(*) into n from gone;
    perform @extschema@.count_out(p_job, p_state, n);
    return n;
end
$$;
