-- Units one by one, a page at a time, for list_units(): in the order of resource and id, so that each page goes on by
-- an index after the place where the last one ended, whatever has changed meanwhile. What is done stands by its time.

-- Where a unit stands for a person: one that is ready is 'leased' or 'waiting' where its resource is.
create or replace function @extschema@.shown_state(p_state @extschema@.unit_state,
    p_stripe @extschema@.stripe_state) returns text language sql immutable as $$
    select case when p_state = 'ready' and p_stripe in ('leased', 'waiting') then p_stripe::text else p_state::text end
$$;

-- The resources in this state after one by name, at most p_bound: those leased by way of the workers, those waiting by
-- an index of their own.
create or replace function @extschema@.resources_in(p_job int, p_state text, p_after text, p_bound int)
    returns setof text language sql stable as $$
    (select resource from @extschema@.stripe
        where p_state = 'waiting' and job_id = p_job and state = 'waiting' and resource >= p_after
        order by resource limit p_bound)
    union all (select s.resource from @extschema@.worker w
        cross join lateral (select resource from @extschema@.stripe
            where worker_id = w.id and state = 'leased' order by fence limit 100000) s
        where p_state = 'leased' and w.job_id = p_job and s.resource >= p_after order by s.resource limit p_bound)
$$;

-- Units in one state of the table after a place, of one resource or all. The state as a literal: only then is its index
-- read in its order, on every version of Postgres.
create or replace function @extschema@.units_after(
    p_job int, p_state text, p_resource text, p_after_resource text, p_after_id bigint, p_bound int
) returns setof @extschema@.unit language plpgsql stable as $$
begin
    return query execute format('select * from %s
        where job_id = $1 and state = %L and (resource, id) > ($2, $3) %s order by resource, id limit $4',
        '@extschema@.unit', p_state, case when p_resource is not null then 'and resource >= $5 and resource <= $5' end)
        using p_job, p_after_resource, p_after_id, p_bound, p_resource;
end
$$;

-- Of given units, those that there are, in the order of resource and id.
create or replace function @extschema@.units_given(p_job int, p_resource text, p_ids bigint[], p_bound int)
    returns setof @extschema@.unit language sql stable as $$
    select * from @extschema@.unit
    where id = any(p_ids) and job_id is not distinct from p_job and (p_resource is null or resource = p_resource)
    order by resource, id limit p_bound
$$;

-- Ready units of resources in this state after a place, one resource after the other.
create or replace function @extschema@.units_of_resources(
    p_job int, p_state text, p_after_resource text, p_after_id bigint, p_bound int
) returns setof @extschema@.unit language plpgsql stable as $$
declare
    name text;
    n int;
    looked int := 0;
begin
    for name in select * from @extschema@.resources_in(p_job, p_state, p_after_resource, p_bound) loop
        return query select * from @extschema@.unit u
            where u.job_id = p_job and u.resource <= name and u.state = 'ready'
                and (u.resource, u.id) > (name, case when name = p_after_resource then p_after_id else 0 end)
            order by u.resource, u.id limit p_bound - looked;
        get diagnostics n = row_count;
        looked := looked + n;
        exit when looked = p_bound;
    end loop;
end
$$;

-- What is looked at for a page: at most p_bound units after the place, of all that is not done, or of those that may be
-- in p_state.
create or replace function @extschema@.listed(
    p_job int, p_state text, p_resource text, p_after_resource text, p_after_id bigint, p_bound int
) returns setof @extschema@.unit language plpgsql stable as $$
declare
    from_time constant timestamptz :=
        case when p_state = 'done' then coalesce(nullif(p_after_resource, ''), 'infinity') end;
begin
    if p_state in ('leased', 'waiting') and p_resource is null then
        return query select * from @extschema@.units_of_resources(
            p_job, p_state, p_after_resource, p_after_id, p_bound);
    elsif p_state = 'done' then
        return query select * from (
                select * from @extschema@.unit o
                where o.job_id = p_job and o.state = 'done' and o.finished_at is not null
                    and o.finished_at <= from_time and (o.finished_at, -o.id) < (from_time, -p_after_id)
                order by o.finished_at desc fetch first p_bound rows with ties) u
            order by u.finished_at desc, u.id limit p_bound;
    else
        return query select u.* from unnest(case when p_state is null then '{ready,delayed,held,dead}'::text[]
                when p_state in ('leased', 'waiting') then '{ready}' else array[p_state] end) s(state)
            cross join lateral @extschema@.units_after(p_job, s.state, p_resource, p_after_resource, p_after_id,
                p_bound) u
            order by u.resource, u.id limit p_bound;
    end if;
end
$$;
