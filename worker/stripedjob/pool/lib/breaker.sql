-- The circuit breaker of a job: where its last tries all failed alike, nothing of it is claimed for a while, and what
-- fails meanwhile uses up no attempt. Its state is in the job's row, which claims and settlements read anyway: as long
-- as tries are done, it costs nothing.

-- How many resources a claim may lease. Null: as many as it asks for, since the breaker is closed. 0: it is open, or
-- the probe is at work. 1: it is half open, and this is the probe. Invariant: at most one lease that was claimed half
-- open is out. Its place is free when it has ended, in whatever way.
create or replace function @extschema@.breaker_admits(j @extschema@.job) returns int language sql stable as $$
    select case when j.open_until is null then null
        when j.open_until > @extschema@.clock() or exists (select from @extschema@.stripe
            where job_id = j.id and resource = j.probe_resource and fence = j.probe_fence and state = 'leased') then 0
        else 1 end
$$;

-- Says so again when no other can be made the probe, until the end of the transaction: where one may be.
create or replace function @extschema@.lock_probe(j @extschema@.job) returns int language plpgsql as $$
begin
    if @extschema@.breaker_admits(j) = 0 then
        return 0;
    end if;
    select * into j from @extschema@.job where id = j.id for no key update;
    return @extschema@.breaker_admits(j);
end
$$;

-- Adds tries that failed, in their order, to a run of so many of one kind: one of another kind begins a new run. A null
-- is no try of its own. `opens_at`: the place of the try with which it is p_failures long; null: it does not come so
-- far.
create or replace function @extschema@.breaker_run(p_kind text, p_tries int, p_kinds text[], p_failures int,
    out kind text, out tries int, out opens_at int) language plpgsql immutable as $$
declare
    this text;
    n int := 0;
begin
    kind := p_kind;
    tries := p_tries;
    foreach this in array p_kinds loop
        n := n + 1;
        continue when this is null;
        tries := case when this = kind then tries + 1 else 1 end;
        kind := this;
        if tries >= p_failures then
            opens_at := n;
            return;
        end if;
    end loop;
end
$$;

-- Opens it, after a run of so many tries of one kind, for as long as tries of a unit wait: doubled each time in a row,
-- within bounds. A second at least, so that probes that fail cost little where the backoff is 0. Until when.
create or replace function @extschema@.open_breaker(p_job int, p_kind text, p_tries int) returns timestamptz
    language sql as $$
    update @extschema@.job set alike = p_tries, alike_kind = p_kind, openings = openings + 1,
        opened_at = coalesce(opened_at, @extschema@.clock()),
        open_until = @extschema@.clock() + make_interval(secs =>
            greatest(1, least(backoff_seconds_max, backoff_seconds * 2.0 ^ least(openings, 32)))),
        probe_resource = null, probe_fence = null
    where id = p_job;
    select pg_notify(@extschema@.channel('operator'), p_job::text);
    select open_until from @extschema@.job where id = p_job
$$;

-- Closes it, and calls workers who slept for it; or forgets the tries that have failed so far.
create or replace function @extschema@.close_breaker(p_job int) returns void language plpgsql as $$
declare
    was_open constant boolean := (select open_until is not null from @extschema@.job where id = p_job);
begin
    update @extschema@.job set alike = 0, alike_kind = null, openings = 0, opened_at = null, open_until = null,
        probe_resource = null, probe_fence = null
    where id = p_job and alike > 0;
    if was_open then
        perform @extschema@.notify_ready(p_job), @extschema@.notify_delegator(p_job),
            pg_notify(@extschema@.channel('operator'), p_job::text);
    end if;
end
$$;

-- What a settlement means for the breaker, and the breaker for it: p_failed and p_wait are those of settle(), and come
-- back with what is spared as it goes back; `spared` is what settle() answers. p_valid: the resources whose leases are
-- the worker's; p_is_done: something of them was done. Of tries, those with a `kind` count, whose unit was not
-- cancelled; units that were tried in one call count once. The units are locked before the job's row: see
-- docs/lock-order.md.
create or replace function @extschema@.heed_breaker(
    p_job int, p_valid text[], p_is_done boolean, p_resources text[], p_fences bigint[], p_worked int[], p_then text[],
    inout p_failed json, inout p_wait float8[], out spared json
) language plpgsql as $$
declare
    j @extschema@.job;
    run record;
    ids bigint[];
    kinds text[];
    resources text[];
    spares_from int;
begin
    select array_agg(t.id order by t.n), array_agg(t.kind order by t.n), array_agg(t.resource order by t.n)
    into ids, kinds, resources
    from (
        select f.n, case when f.again is not true then f.kind end as kind, u.id, u.resource
        from (
            select * from rows from (json_to_recordset(p_failed) as (id bigint, kind text, again boolean))
                with ordinality f(id, kind, again, n)
            where kind is not null order by id
        ) f cross join lateral (
            select id, resource from @extschema@.unit
            where id = f.id and job_id is not distinct from p_job and resource = any(p_valid)
                and state is not distinct from 'ready' and cancelled is null
            limit 1 for no key update
        ) u
    ) t;
    select * into j from @extschema@.job where id = p_job for no key update;
    if j.breaker_failures = 0 then
        return;
    elsif j.open_until is not null then
        spares_from := 1;
        j.open_until := @extschema@.judge_probe(j, p_valid, p_fences, p_worked, resources, kinds);
    elsif p_is_done then
        perform @extschema@.close_breaker(p_job);
    elsif ids is not null then
        select * into run from @extschema@.breaker_run(j.alike_kind, j.alike, kinds, j.breaker_failures);
        spares_from := run.opens_at;
        if spares_from is null then
            update @extschema@.job set alike = run.tries, alike_kind = run.kind where id = p_job;
        else
            j.open_until := @extschema@.open_breaker(p_job, run.kind, run.tries);
        end if;
    end if;
    if spares_from <= cardinality(ids) then
        select s.failed, s.wait, s.spared into p_failed, p_wait, spared from @extschema@.spare(p_failed, p_wait,
            p_resources, p_then, ids[spares_from:], resources[spares_from:],
            greatest(0, extract(epoch from j.open_until - @extschema@.clock()))) s;
    end if;
end
$$;

-- Where the settled leases have the probe: opens the breaker again if it failed, and closes it if it was done. Ended
-- otherwise (given back, held, dead, cancelled), it says nothing, and the next claim is the probe. Until when it is, or
-- was, open.
create or replace function @extschema@.judge_probe(
    j @extschema@.job, p_valid text[], p_fences bigint[], p_worked int[], p_failed text[], p_kinds text[]
) returns timestamptz language plpgsql as $$
declare
    place constant int := array_position(p_failed, j.probe_resource);
    run record;
begin
    if j.probe_fence is null or j.probe_fence <> all(p_fences) or j.probe_resource <> all(p_valid) then
        return j.open_until;
    end if;
    if place is not null then
        select * into run from @extschema@.breaker_run(j.alike_kind, j.alike, p_kinds[place:place], 1);
        return @extschema@.open_breaker(j.id, run.kind, run.tries);
    end if;
    if p_worked[array_position(p_fences, j.probe_fence)] > 0 or exists (select from @extschema@.stripe
        where job_id = j.id and resource = j.probe_resource and completed > 0) then
        perform @extschema@.close_breaker(j.id);
    end if;
    return j.open_until;
end
$$;

-- Has these units go back in so many seconds, with the attempts that they had, in place of what was decided: delayed,
-- or where their resource waits for them, as with strict order, ready in it. `spared`: what became of each of them.
create or replace function @extschema@.spare(
    p_failed json, p_wait float8[], p_resources text[], p_then text[], p_ids bigint[], p_spared text[],
    p_seconds float8, out failed json, out wait float8[], out spared json
) language sql as $$
    select f.failed, case when p_wait is not null then array(
        select case when w.after = 'wait' and w.seconds < 'infinity' and w.resource = any(p_spared) then p_seconds
            else w.seconds end
        from unnest(p_resources, p_then, p_wait) with ordinality w(resource, after, seconds, n) order by w.n) end,
        f.spared
    from (
        select json_agg(
                case when s.id is null then f.value else (f.value::jsonb || r.instead)::json end order by f.n
            ) as failed,
            json_agg(r.instead order by f.n) filter (where s.id is not null) as spared
        from json_array_elements(p_failed) with ordinality f(value, n)
        left join unnest(p_ids) s(id) on s.id = (f.value ->> 'id')::bigint
        cross join lateral (select jsonb_build_object('id', s.id,
            'to', case f.value ->> 'to' when 'ready' then 'ready' else 'delayed' end,
            'attempts', greatest(0, (f.value ->> 'attempts')::int - 1), 'after', p_seconds) as instead) r
    ) f
$$;
