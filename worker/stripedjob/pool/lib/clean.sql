-- What is removed in the end: a transaction of its own, at most every 30 s, and at most 2,000 rows of each kind.

-- Removes a job's finished units of one state that have been kept for so long; returns how many.
create or replace function @extschema@.expire_units(p_job int, p_state @extschema@.unit_state, p_seconds int,
    p_bound int) returns int
language plpgsql as $$
declare
    kept_since constant timestamptz := @extschema@.clock() - make_interval(secs => p_seconds);
    n int;
begin
    delete from @extschema@.unit where id = any(array(
        select id from @extschema@.unit
        where job_id = p_job and state = p_state and finished_at is not null and finished_at <= kept_since
        order by finished_at limit p_bound for update skip locked));
    get diagnostics n = row_count;
    return n;
end
$$;

-- Gives back what belongs to a worker that has no row, and what is assigned in a job without a delegator. Nothing makes
-- such a lease; this is for what nobody has thought of. The workers that own anything are found by skipping through the
-- index.
create or replace function @extschema@.sweep_orphans(p_job int) returns void language plpgsql as $$
declare
    orphaned tid[];
begin
    with recursive owners as (
        (select worker_id, 1 as n from @extschema@.stripe where state = 'leased' order by worker_id limit 1)
        union all
        select (select s.worker_id from @extschema@.stripe s where s.state = 'leased' and s.worker_id > o.worker_id
            order by s.worker_id limit 1), n + 1
        from owners o where o.worker_id is not null and n < 10000
    ), orphans as materialized ( -- or those of the living are locked, and sorted out afterwards
        select worker_id from owners o
        where worker_id is not null and not exists (select from @extschema@.worker w where w.id = o.worker_id)
    )
    select array_agg(s.place) into orphaned from orphans o cross join lateral (
        select ctid as place from @extschema@.stripe
        where worker_id = o.worker_id and state = 'leased' and job_id is not distinct from p_job
        limit 1000 for update skip locked) s;
    update @extschema@.stripe s set state = @extschema@.given_back(s.paused), worker_id = null,
        next_at = case when s.paused then 'infinity'::timestamptz end
    where s.ctid = any(orphaned);
    perform @extschema@.unassign(w.id) from @extschema@.worker w join @extschema@.job j on j.id = w.job_id
    where w.job_id = p_job and not j.delegated and exists (
        select from @extschema@.stripe s where s.worker_id = w.id and s.state = 'assigned');
end
$$;

-- Forgets the buckets of areas that would be full by now and have nothing at work: they begin full.
create or replace function @extschema@.expire_areas(j @extschema@.job, p_bound int) returns int language plpgsql as $$
declare
    full_since constant timestamptz := @extschema@.clock() - make_interval(secs => j.period_seconds);
    places constant tid[] := array(
        select o.place from (
            select ctid as place, area, refilled_at from @extschema@.area
            where job_id = j.id and refilled_at > '-infinity' order by refilled_at limit p_bound for update skip locked
        ) o
        where j.outstanding_max is null or o.refilled_at < full_since and (
            select s.area from @extschema@.stripe s
            where s.job_id = j.id and s.area = o.area and s.state in ('assigned', 'leased') limit 1) is null);
    n int;
begin
    delete from @extschema@.area where ctid = any(places);
    get diagnostics n = row_count;
    return n;
end
$$;

-- Corrects the numbers of a job that has no unit of a state, where somebody has removed units by hand.
create or replace function @extschema@.correct_flow(p_job int) returns void language plpgsql as $$
declare
    s @extschema@.job_status;
begin
    select * into s from @extschema@.job_status where id = p_job;
    update @extschema@.flow set
        ready_in = ready_in - case when s.pending <> 0 and not exists (
            select from @extschema@.unit where job_id = p_job and state = 'ready') then s.pending else 0 end,
        delayed_out = delayed_out + case when s.delayed <> 0 and not exists (
            select from @extschema@.unit where job_id = p_job and state = 'delayed') then s.delayed else 0 end,
        held_out = held_out + case when s.held <> 0 and not exists (
            select from @extschema@.unit where job_id = p_job and state = 'held') then s.held else 0 end,
        dead_out = dead_out + case when s.dead <> 0 and not exists (
            select from @extschema@.unit where job_id = p_job and state = 'dead') then s.dead else 0 end
    where job_id = p_job and not exists (select from @extschema@.wake where job_id = p_job)
        and not exists (select from @extschema@.worker where job_id = p_job and working);
end
$$;
