-- How units are cancelled. One that waits is dead at once; one whose resource is leased is marked: its worker ends it,
-- no claim hands it out any more, and upkeep ends it where the lease is over before. Invariant: what becomes of a unit
-- is recorded once. A mark changes nothing of what a lease may record: a unit that is done meanwhile is done.

-- Locks those of p_resources that are not leased, and returns their names: with those that have no stripe, which get
-- none while the caller has the turn of upkeep. What somebody else has locked counts as leased.
create or replace function @extschema@.lock_unleased(p_job int, p_resources text[]) returns text[]
    language plpgsql as $$
declare
    there constant text[] := @extschema@.with_stripe(p_job, p_resources);
    places constant tid[] := array(select place from @extschema@.lock_free(p_job, there));
begin
    return array(select unnest(p_resources) except select unnest(there)
        union select resource from @extschema@.stripe where ctid = any(places) and state <> 'leased');
end
$$;

-- Ends units that nobody works on: all of these that are delayed or held, and those that are ready and of p_unleased,
-- which are locked. Without a reason, each for that of its mark; p_who and p_why are for the history. Returns how many.
-- A resource that waited for one of them goes on. The numbers count them as if they had been ready and died.
create or replace function @extschema@.end_waiting(
    j @extschema@.job, p_ids bigint[], p_unleased text[], p_reason text, p_who text, p_why text
) returns int language plpgsql as $$
declare
    resources text[];
    firsts bigint[]; -- of each of these, the first that was ready
    dues timestamptz[]; -- and when the first was due that was delayed
    counts int[]; -- and how many were ready
    n_all int;
    n_delayed int;
    n_held int;
begin
    with old as materialized (
        select id, state, resource, due_at from @extschema@.unit
        where id = any(p_ids) and (state in ('delayed', 'held') or state = 'ready' and resource = any(p_unleased))
        order by resource, id for update
    ), ended as (
        update @extschema@.unit u set state = 'dead', reason = coalesce(p_reason, u.cancelled), cancelled = null,
            trace = null, finished_at = @extschema@.clock()
        from old where u.id = any(array[old.id]) returning u.id, old.state, u.resource, old.due_at, u.reason
    ), noted as (
        insert into @extschema@.history (slot, at, job_id, event, resource, unit, who, state, reason)
        select (select slot from @extschema@.history_ring), (select @extschema@.clock()), j.id, 'cancelled', resource,
            id, p_who, 'dead', case when p_reason is null then reason else p_why end
        from ended where j.history_seconds > 0
    ), grouped as (
        select resource, min(id) filter (where state = 'ready') first, min(due_at) filter (where state = 'delayed') due,
            count(*) filter (where state = 'ready') ready, count(*) all_of_them,
            count(*) filter (where state = 'delayed') delayed, count(*) filter (where state = 'held') held
        from ended group by resource
    )
    select array_agg(resource), array_agg(first), array_agg(due), array_agg(ready::int),
        coalesce(sum(all_of_them), 0), coalesce(sum(delayed), 0), coalesce(sum(held), 0)
    into resources, firsts, dues, counts, n_all, n_delayed, n_held from grouped;
    if n_all = 0 then
        return 0;
    end if;
    perform @extschema@.count_off(j.id, resources, counts);
    perform @extschema@.go_on(j, array(
        select r.resource from unnest(resources, firsts, dues) r(resource, first, due) cross join lateral (
            select next_at from @extschema@.stripe where job_id = j.id and resource = r.resource limit 1) s
        where r.resource = any(p_unleased) and (s.next_at = 'infinity' or r.due = s.next_at
            or r.first < coalesce(@extschema@.first_unit(j.id, r.resource), r.first + 1))));
    update @extschema@.flow set ready_in = ready_in + n_delayed + n_held, delayed_out = delayed_out + n_delayed,
        held_out = held_out + n_held
    where job_id = j.id;
    update @extschema@.job set dead = dead + n_all where id = j.id;
    return n_all;
end
$$;

-- Takes units that were ready off the number that resources show.
create or replace function @extschema@.count_off(p_job int, p_resources text[], p_units int[]) returns void
    language sql as $$
    update @extschema@.stripe s set ready = greatest(0, s.ready - r.units)
    from (select o.units, t.place from unnest(p_resources, p_units) o(resource, units) cross join lateral (
        select ctid as place from @extschema@.stripe
        where job_id = p_job and resource = o.resource and state is distinct from 'leased' limit 1) t) r
    where s.ctid = r.place and r.units > 0
$$;

-- Makes resources ready that wait, and are locked by the caller: not those that a person has paused, nor where order is
-- strict those that have a held unit. Returns how many.
create or replace function @extschema@.go_on(j @extschema@.job, p_resources text[]) returns int
    language plpgsql as $$
declare
    n int;
    places constant tid[] := @extschema@.places(j.id, p_resources);
begin
    update @extschema@.stripe s set state = 'ready', next_at = null,
        rank = @extschema@.clock() - s.importance * interval '1 minute'
    where s.ctid = any(places) and s.state is not distinct from 'waiting' and not s.paused
        and not (j.on_failure = 'Block' and @extschema@.has_held(j.id, s.resource));
    get diagnostics n = row_count;
    return n;
end
$$;

-- The resources that have marked units, at most 1,000. The index is skipped through.
create or replace function @extschema@.cancelled_resources(p_job int) returns setof text language sql stable as $$
    with recursive found as (
        select (select min(resource) from @extschema@.unit where job_id = p_job and cancelled is not null) resource,
            1 as n
        union all
        select (select min(resource) from @extschema@.unit
            where job_id = p_job and cancelled is not null and resource > found.resource), n + 1
        from found where found.resource is not null and n < 1000
    )
    select resource from found where resource is not null
$$;

-- Ends marked units whose resource is not leased any more, at most 2,000: a part of upkeep.
create or replace function @extschema@.end_cancelled(p_job int) returns void language plpgsql as $$
declare
    unleased text[];
    j @extschema@.job;
begin
    if not exists (select from @extschema@.unit where job_id = p_job and cancelled is not null) then
        return;
    end if;
    unleased := @extschema@.lock_unleased(p_job, array(
        select r.resource from @extschema@.cancelled_resources(p_job) r(resource) order by 1));
    select * into j from @extschema@.job where id = p_job;
    perform @extschema@.end_waiting(j, array(
        select u.id from unnest(unleased) r(resource) cross join lateral (
            select id from @extschema@.unit
            where job_id = p_job and resource >= r.resource and resource <= r.resource and cancelled is not null
            order by resource, id limit 2000) u
        limit 2000), unleased, null, null, null);
end
$$;

-- The marked units of a worker's leases, at most 1,000, and why they are.
create or replace function @extschema@.marked(p_job int, p_worker bigint) returns table (unit bigint, reason text)
    language sql stable as $$
    select u.id, u.cancelled from @extschema@.cancelled_resources(p_job) r(resource)
    cross join lateral (select from @extschema@.stripe
        where job_id = p_job and stripe.resource = r.resource and worker_id is not distinct from p_worker
            and state is not distinct from 'leased' limit 1) s
    cross join lateral (select id, cancelled from @extschema@.unit o
        where o.job_id = p_job and o.resource >= r.resource and o.resource <= r.resource and o.cancelled is not null
        order by o.resource, o.id limit 1000) u
    limit 1000
$$;
