-- What a worker calls: register, resume, renew, claim. Each is one round trip. The order in which they take locks:
-- docs/lock-order.md.

-- Locks a worker's row, so that it cannot be considered dead meanwhile, and returns it. SJ001: it was, and its leases
-- have passed to others; it must stop what it does and register again. SJ002: it has come back over another connection,
-- and this one is a leftover.
create or replace function @extschema@.lock_worker(p_worker bigint,
    p_session int default null) returns @extschema@.worker
language plpgsql as $$
declare
    w @extschema@.worker;
begin
    select * into w from @extschema@.worker where id = p_worker for no key update;
    if w.id is null then
        raise exception 'worker % is no longer registered: its lease ran out', p_worker using errcode = 'SJ001';
    end if;
    perform @extschema@.check_job(w.job_id, 'worker');
    if p_session is distinct from w.session and p_session is not null then
        raise exception 'worker % goes on in session %, not %', p_worker, w.session, p_session using errcode = 'SJ002';
    end if;
    return w;
end
$$;

create or replace function @extschema@.lease(p_job int) returns interval language sql stable as $$
    select make_interval(secs => lease_seconds) from @extschema@.job where id = p_job
$$;

-- What a leased resource is when it is given back: ready, or where a person has paused it waiting, for ever.
create or replace function @extschema@.given_back(p_paused boolean) returns @extschema@.stripe_state
    language sql immutable as $$
    select case when p_paused then 'waiting' else 'ready' end::@extschema@.stripe_state
$$;

-- Gives back what a worker holds, but for these leases: no crash is counted.
create or replace function @extschema@.give_back(w @extschema@.worker, p_kept bigint[]) returns void
    language plpgsql as $$
declare
    places constant tid[] := array(
        select ctid from @extschema@.stripe
        where worker_id = w.id and state = 'leased' and fence <> all(p_kept) order by resource for update);
    names text[];
    fences bigint[];
begin
    with back as (
        update @extschema@.stripe s set state = @extschema@.given_back(s.paused), worker_id = null,
            next_at = case when s.paused then 'infinity'::timestamptz end
        where s.ctid = any(places)
        returning s.resource, s.fence
    )
    select array_agg(b.resource), array_agg(b.fence) into names, fences from back b;
    perform @extschema@.note_resources(j, 'returned', names, fences, w.name, null) from @extschema@.job j
        where j.id = w.job_id;
end
$$;

-- A fence up to which the worker holds no lease, as this session knows: none was there, and those that come have higher
-- ones. 0: it knows nothing.
create or replace function @extschema@.ended_until(p_worker bigint) returns bigint language sql stable as $$
    select case when given[1] = p_worker::text and array_to_string(given[3:], '|') = '@extschema@'
        then given[2]::bigint else 0 end
    from (select string_to_array(current_setting('striped.ended', true), '|') given) s
$$;

-- Of these fences, those under which the worker holds no lease.
create or replace function @extschema@.lost_fences(p_worker bigint, p_fences bigint[]) returns bigint[]
    language plpgsql as $$
declare
    ended constant bigint := @extschema@.ended_until(p_worker);
begin
    return array(select unnest(p_fences) except
        select fence from @extschema@.stripe where worker_id = p_worker and state = 'leased' and fence > ended);
end
$$;

-- Invariant: at most schedule_limit workers of a job have `working`, and only those may claim. A slot is taken under
-- the lock of the job's row, so that two cannot take the last one; when the limit was lowered, the youngest workers are
-- refused. The worker's row is locked already: before the job's, as the reaper does.
create or replace function @extschema@.may_work(w @extschema@.worker) returns boolean language plpgsql as $$
declare
    allowed int;
begin
    if w.working then
        select schedule_limit into allowed from @extschema@.job where id = w.job_id;
        return allowed > (select count(*) from @extschema@.worker o
            where o.job_id = w.job_id and o.working and (o.started_at, o.id) < (w.started_at, w.id));
    end if;
    select schedule_limit into allowed from @extschema@.job where id = w.job_id for no key update;
    if allowed <= (select count(*) from @extschema@.worker o where o.job_id = w.job_id and o.working) then
        return false;
    end if;
    update @extschema@.worker set working = true, polled_at = @extschema@.clock(),
        expires_at = @extschema@.clock() + @extschema@.lease(w.job_id)
    where id = w.id;
    return true;
end
$$;

-- A worker without a lease gives its slot back; one that may lease no more gives back what was assigned to it in any
-- case. Its row is locked, so that it leases nothing meanwhile, and the session remembers that it has none: the
-- next look need not walk through leases that have ended, which a snapshot that is open elsewhere keeps in the index.
create or replace function @extschema@.release_slot(p_worker bigint) returns void language plpgsql as $$
declare
    ended constant bigint := @extschema@.ended_until(p_worker);
    is_leased boolean;
begin
    perform @extschema@.unassign(p_worker);
    is_leased := exists (
        select from @extschema@.stripe where worker_id = p_worker and state = 'leased' and fence > ended);
    if not is_leased then
        perform set_config('striped.ended', concat_ws('|', p_worker,
            coalesce(pg_sequence_last_value('@extschema@.fence'), 0), '@extschema@'), false);
    end if;
    update @extschema@.worker w set wants = 0, lacks = 0, working = is_leased
    where id = p_worker and (working or wants > 0);
end
$$;

-- How many of p_available resources one of p_workers may take: half an even share, so that the last ones spread.
create or replace function @extschema@.fair_share(p_available int, p_workers int) returns int
    language sql immutable as $$
    select (p_available + 2 * p_workers - 1) / (2 * p_workers)
$$;

-- Counts a job's ready resources from a rank on, as far as a share of p_resources for each of p_workers depends on it.
-- It looks at 2,000 rows at most, and takes it that there are enough where there are as many.
create or replace function @extschema@.count_ready(p_job int, p_workers int, p_resources int,
    p_from timestamptz default '-infinity')
returns int language sql stable as $$
    select case when count(*) < 2000 then count(*) else 2 * p_workers * p_resources end from (
        select from @extschema@.stripe where job_id = p_job and state = 'ready' and rank >= p_from
            limit least(2 * p_workers * p_resources, 2000)
    ) s
$$;

-- The rank of a job's first ready resource; null: there is none. Where all that look have to walk through what was
-- worked already, this session begins for a while where it found something last, or where it found that there was
-- nothing (recall.sql); what comes to stand before that is seen later.
create or replace function @extschema@.first_ready(p_job int) returns timestamptz language plpgsql as $$
declare
    slow constant interval := '10 milliseconds';
    known constant timestamptz := @extschema@.recall('ready', p_job)::timestamptz; -- -infinity: one look was slow
    is_sure constant boolean := known is not null or @extschema@.were_slow('ready', p_job);
    front timestamptz := coalesce(known, '-infinity');
    began timestamptz := @extschema@.clock();
    first_rank timestamptz;
begin
    loop
        select rank into first_rank from @extschema@.stripe
        where job_id = p_job and state = 'ready' and rank >= front order by rank limit 1;
        exit when first_rank is not null or front = '-infinity' or not @extschema@.may_look('ready', p_job);
        front := '-infinity';
        began := @extschema@.clock();
    end loop;
    if front > '-infinity' or @extschema@.clock() > began + slow then
        perform @extschema@.remember('ready', p_job,
            case when is_sure then coalesce(first_rank, greatest(known, began)) else '-infinity' end::text,
            case when front = '-infinity' then @extschema@.clock() - began end);
    elsif known is null then
        perform @extschema@.forget('ready');
    end if;
    return first_rank;
end
$$;

-- The ready resources that a worker may lease by itself: its fair share, and idle workers are called for what it
-- leaves. Where their stripes are, which are locked. A resource that workers died with comes alone, when it stands
-- first.
create or replace function @extschema@.pick_ready(w @extschema@.worker, p_resources int, p_unshared int) returns tid[]
    language plpgsql as $$
declare
    first_rank constant timestamptz := @extschema@.first_ready(w.job_id);
    workers int := (select count(*) from @extschema@.worker o where o.job_id = w.job_id);
    available int;
    share int := p_resources;
    suspicious boolean;
    suspects tid[];
    others tid[];
begin
    if p_unshared < p_resources then
        available := @extschema@.count_ready(w.job_id, workers, p_resources, first_rank);
        share := least(p_resources, greatest(p_unshared, @extschema@.fair_share(available, workers)));
    end if;
    select (array_agg(r.crashes))[1] > 0,
        array_agg(r.ctid) filter (where r.crashes > 0), array_agg(r.ctid) filter (where r.crashes = 0)
    into suspicious, suspects, others
    from (
        select ctid, crashes from @extschema@.stripe
        where job_id = w.job_id and state = 'ready' and rank >= first_rank order by rank limit share
            for update skip locked
    ) r;
    if share > 0 and coalesce(cardinality(suspects), 0) + coalesce(cardinality(others), 0) = share then
        -- where nothing was counted, there may be more
        perform @extschema@.notify_idle(w.job_id, coalesce(available - share, 1));
    end if;
    return case when suspicious then suspects[1:1] else others end;
end
$$;
