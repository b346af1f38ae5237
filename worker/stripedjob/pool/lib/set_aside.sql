-- What people and the operator change.

-- Takes a job's turns at these kinds of periodic work, in order, and waits for them: what a person asks for at once
-- locks units, resources and counters in an order of its own, which is safe where none of the others is at it.
create or replace function @extschema@.await_turns(p_job int, p_kinds text[]) returns void language plpgsql as $$
begin
    perform from @extschema@.turn where job_id = p_job and kind = any(p_kinds) order by kind for no key update;
end
$$;

-- The ids of held or dead units that are meant, locked in the order of resource and id: by the index of those set
-- aside, or by their ids.
create or replace function @extschema@.set_aside(p_job int, p_state @extschema@.unit_state, p_resource text,
    p_ids bigint[], p_bound int)
returns bigint[] language plpgsql as $$
declare
    chosen bigint[];
begin
    if p_state not in ('held', 'dead') then
        return '{}';
    elsif p_ids is not null then
        return array(
            select id from @extschema@.unit
            where id = any(p_ids) and job_id is not distinct from p_job and state is not distinct from p_state
                and (p_resource is null or resource = p_resource)
            order by resource, id limit p_bound for update);
    end if;
    -- The state as a literal: only then is the index of those set aside read in its order, on every version of
    -- Postgres.
    execute format('select array(
        select id from %s where job_id = $1 and state = %L %s
        order by resource, id limit $3 for update)', '@extschema@.unit', p_state,
        case when p_resource is not null then 'and resource >= $2 and resource <= $2' end)
    into chosen using p_job, p_resource, p_bound;
    return chosen;
end
$$;

-- Counts units that are held or dead no more.
create or replace function @extschema@.count_out(p_job int, p_state @extschema@.unit_state, p_units int) returns void
    language sql as $$
    update @extschema@.flow set
        held_out = held_out + case p_state when 'held' then p_units else 0 end,
        dead_out = dead_out + case p_state when 'dead' then p_units else 0 end
    where job_id = p_job and p_units > 0
$$;

-- Some units of a job, by the index of one state after the other.
create or replace function @extschema@.units_of(p_job int, p_bound int) returns setof bigint language sql stable as $$
    (select id from @extschema@.unit where job_id = p_job and state = 'ready' limit p_bound)
    union all (select id from @extschema@.unit where job_id = p_job and state = 'delayed' limit p_bound)
    union all (select id from @extschema@.unit where job_id = p_job and state in ('held', 'dead') limit p_bound)
    union all (select id from @extschema@.unit where job_id = p_job and state = 'done' and finished_at is not null
        limit p_bound)
$$;
