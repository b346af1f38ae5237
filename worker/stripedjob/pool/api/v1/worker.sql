-- What a worker calls. Each is one round trip, and of every call of a worker but complete() the first step is to lock
-- its row: nobody considers it dead meanwhile.

-- Makes a worker, and returns its id, which no other has ever had: 52 bits of a random uuid. The sessions of its
-- handlers have p_backend_name as their application_name, and the role that registers it.
create or replace function @extschema@.register(p_job int, p_name text, p_backend_name text default null) returns bigint
    language sql as $$
    select @extschema@.check_job(p_job, 'worker');
    insert into @extschema@.worker (id, job_id, name, backend_name, role, expires_at)
    values (1 + ('x' || left(md5(gen_random_uuid()::text), 13))::bit(52)::bigint, p_job, p_name, p_backend_name,
        to_regrole(quote_ident(session_user)), @extschema@.clock() + @extschema@.lease(p_job))
    returning id
$$;

-- A worker comes back over a new connection, and knows of leases with these fences. What it holds beyond them was
-- leased by a claim whose answer was lost; nobody would ever end that, so it is ready again. p_session is drawn by the
-- worker, and greater than all before: a claim or a resume of an older connection that comes only now finds that its
-- session is over. Returns those of p_fences that are not the worker's.
create or replace function @extschema@.resume(p_worker bigint, p_session int, p_fences bigint[]) returns bigint[]
    language plpgsql as $$
declare
    w @extschema@.worker := @extschema@.lock_worker(p_worker);
begin
    if p_session <= w.session then
        raise exception 'worker % goes on in session %, not %', p_worker, w.session, p_session using errcode = 'SJ002';
    end if;
    update @extschema@.worker set session = p_session, expires_at = @extschema@.clock() + @extschema@.lease(w.job_id)
        where id = p_worker;
    perform @extschema@.give_back(w, p_fences);
    return @extschema@.lost_fences(p_worker, p_fences);
end
$$;

-- Extends every lease of the worker: they all end with the worker's own row. Returns those of p_fences, the leases that
-- it believes to hold, that are not its any more: after a fail-over to a stand-by that lacked them, or where somebody
-- cleared the pool.
create or replace function @extschema@.renew(p_worker bigint, p_fences bigint[]) returns bigint[] language plpgsql as $$
declare
    w @extschema@.worker := @extschema@.lock_worker(p_worker);
begin
    update @extschema@.worker set expires_at = @extschema@.clock() + @extschema@.lease(w.job_id) where id = p_worker;
    return @extschema@.lost_fences(p_worker, p_fences);
end
$$;

-- Leases up to p_resources ready resources to the worker and hands out up to p_units units of each, all together in
-- p_bytes of payload or little more: a single unit is always handed out. So many resources as p_unshared are taken also
-- where less would be a fair share. A resource that workers died with comes alone, with one unit. One row, of arrays:
-- of each lease its resource, fence, the number of units handed out (0: it turned out to have nothing to do; settle it
-- as finished), whether it has more of them, and for how many microseconds the oldest and the newest of them could have
-- been claimed; and of all units, in order, what a handler and its retries need. No row: nothing was leased. While the
-- job's breaker is half open, one unit of one resource is leased, which probes.
create or replace function @extschema@.claim(
    p_worker bigint, p_session int, p_resources int, p_units int, p_bytes bigint, p_unshared int default 0
) returns setof @extschema@.claimed language plpgsql as $$
declare
    w @extschema@.worker := @extschema@.lock_worker(p_worker, p_session);
    j @extschema@.job;
    admitted int; -- null: the breaker is closed
    picked tid[];
    leased @extschema@.claimed;
begin
    if @extschema@.may_work(w) then
        select * into j from @extschema@.job where id = w.job_id;
        if j.open_until is not null then
            admitted := @extschema@.lock_probe(j);
        end if;
    end if;
    if j.id is null or admitted = 0 then
        perform @extschema@.release_slot(p_worker);
        return;
    end if;
    if j.delegated then
        picked := @extschema@.pick_assigned(w, least(p_resources, admitted));
    else
        picked := @extschema@.pick_ready(w, least(p_resources, admitted), p_unshared);
    end if;
    with taken as (
        update @extschema@.stripe s set state = 'leased', worker_id = p_worker, woken = false,
            leased_at = @extschema@.clock(),
            fence = nextval('@extschema@.fence')
        where s.ctid = any(picked)
        returning s.resource, s.fence, s.crashes
    )
    select array_agg(l.resource), array_agg(l.fence), max(l.crashes) > 0
    into leased.resources, leased.fences, leased.suspect from taken l;
    if leased.resources is not null then
        leased := @extschema@.hand_out(j, leased, case when leased.suspect or admitted = 1 then 1 else p_units end,
            p_bytes);
    end if;
    if leased.resources is not null then
        if admitted = 1 then
            update @extschema@.job set probe_resource = leased.resources[1], probe_fence = leased.fences[1]
            where id = j.id;
        end if;
        if j.history_seconds > 0 then
            perform @extschema@.note_leases(w, leased);
        end if;
        return next leased;
    elsif not @extschema@.waits_for_delegator(p_worker) then
        perform @extschema@.release_slot(p_worker);
    end if;
end
$$;

-- Records what became of leased units, in one transaction. Invariant: where a lease is no longer the worker's under
-- this fence, nothing of it is recorded; those resources are `refused`, and counted as stale. A batch that comes again,
-- because the answer to it was lost, changes nothing. `spared`: null, or what became of those of p_failed that the
-- job's circuit breaker has spared: [{"id", "to", "attempts", "after"}], as in p_failed.
-- p_batch  its number, which grows for each worker
-- p_resources, p_fences, p_worked   the leases, and how many units of each are in p_done
-- p_then   null: all are 'idle'; for each lease: 'keep' it; or end it, and the resource is 'idle' (nothing left, unless
--          units came meanwhile), 'ready' (units are left), 'suspect' (ready, and to be leased alone: it may have
--          killed its worker), or 'wait's
-- p_wait   seconds for 'wait'; infinity: until a person releases a held unit of it
-- p_done   ids of the units that were worked
-- p_failed null, or [{"id", "to": "ready"|"delayed"|"held"|"dead", "attempts", "crashes", "after": seconds, "reason",
--          "trace", "kind", "again"}]; a kind: it was a try that failed, and counts for the circuit breaker, unless
--          it is `again` that of the unit before
create or replace function @extschema@.settle(
    p_job int, p_worker bigint, p_batch bigint, p_resources text[], p_fences bigint[], p_worked int[], p_then text[],
    p_wait float8[],
    p_done bigint[], p_failed json, p_claimed int, p_lock_tries int, p_lock_refusals int,
    out refused text[], out spared json
) language plpgsql as $$
declare
    j @extschema@.job;
    valid text[]; -- the leases that are the worker's
    kept tid[];   -- for each lease where its stripe is, if it is one of these and stays,
    idle tid[];   -- and where those are that go
    completed int; -- units of these that the handler's own transactions recorded, under this lease or one that was lost
    n int := 0;
    is_done boolean;
begin
    perform @extschema@.check_job(p_job, 'worker');
    refused := '{}';
    if (select batch from @extschema@.worker where id = p_worker and job_id = p_job for no key update) >= p_batch then
        return;
    end if;
    select * into j from @extschema@.job where id = p_job;
    select array_agg(l.resource) filter (where l.place is not null),
        array_agg(case when not l.goes then l.place end order by l.n),
        array_agg(l.place) filter (where l.goes), sum(l.completed)
    into valid, kept, idle, completed
    from (
        select x.n, x.resource, s.completed, s.place,
            coalesce(x.after, 'idle') = 'idle' and not s.woken and not s.paused as goes
        from (
            select * from unnest(p_resources, p_fences, p_then) with ordinality u(resource, fence, after, n)
            order by resource
        ) x
        -- One look by the primary key for each, as in with_stripe(). A stripe that has an owner is leased, so `state`
        -- need not be asked for, which would tempt the planner to another index.
        left join lateral (
            select woken, paused, stripe.completed, ctid as place from @extschema@.stripe
            where job_id = p_job and resource >= x.resource and resource <= x.resource
                and worker_id is not distinct from p_worker and fence = x.fence
            order by stripe.resource desc limit 1 for update
        ) s on true
    ) l;
    if valid is not null then
        n := @extschema@.record_done(
            j, p_worker, case when cardinality(valid) < cardinality(p_resources) then valid end, p_done);
        is_done := n + coalesce(completed, 0) > 0;
        if j.breaker_failures > 0 and (is_done and j.alike > 0 or not is_done and p_failed is not null) then
            select * into p_failed, p_wait, spared from @extschema@.heed_breaker(p_job, valid, is_done, p_resources,
                p_fences, p_worked, p_then, p_failed, p_wait);
        end if;
        if p_failed is not null then
            perform @extschema@.fail_units(j, p_worker, valid, p_failed);
        end if;
        delete from @extschema@.stripe where ctid = any(idle);
        if j.delegated and exists (select from @extschema@.worker where job_id = p_job and lacks > 0) then
            perform @extschema@.notify_delegator(p_job);
        end if;
        if cardinality(valid) > coalesce(cardinality(idle), 0) then
            perform @extschema@.end_leases(j, kept, p_worked, p_then, p_wait);
        end if;
    end if;
    update @extschema@.worker w set batch = p_batch, settled_at = @extschema@.clock(),
        done = w.done + n + coalesce(completed, 0), claimed = w.claimed + p_claimed,
        lock_tries = w.lock_tries + p_lock_tries, lock_refusals = w.lock_refusals + p_lock_refusals
    where id = p_worker and job_id = p_job;
    if p_failed is not null or 'wait' = any(p_then) then
        perform @extschema@.notify_idle(p_job, 1); -- who waits for what happens next is to know of this
    end if;
    if cardinality(p_resources) > coalesce(cardinality(valid), 0) then
        update @extschema@.job set stale = stale + cardinality(p_resources) - coalesce(cardinality(valid), 0)
            where id = p_job;
        refused := array(select unnest(p_resources) except select unnest(valid));
    end if;
end
$$;

-- For a handler whose effect is in this database: called at the end of its own transaction, it records the units as
-- done in it. False: the lease is no longer valid, and the transaction must be rolled back. The stripe is locked until
-- the commit, so that the lease cannot pass to another in between. The next settlement of the resource counts the
-- units, also where this worker dies before.
create or replace function @extschema@.complete(p_job int, p_worker bigint, p_resource text, p_fence bigint,
    p_done bigint[])
returns boolean language plpgsql as $$
declare
    j @extschema@.job;
begin
    perform @extschema@.check_job(p_job, 'worker');
    update @extschema@.stripe set ready = greatest(0, ready - cardinality(p_done)),
        completed = completed + cardinality(p_done), crashes = 0
    where job_id = p_job and resource = p_resource and state = 'leased' and worker_id = p_worker and fence = p_fence;
    if not found then
        return false;
    end if;
    select * into j from @extschema@.job where id = p_job;
    return @extschema@.record_done(j, p_worker, array[p_resource], p_done) = cardinality(p_done);
end
$$;

-- A worker goes: what it still holds is ready again at once, and no crash is counted.
create or replace function @extschema@.leave(p_worker bigint) returns void language plpgsql as $$
declare
    w @extschema@.worker;
begin
    select * into w from @extschema@.worker where id = p_worker for update; -- from here on nothing is assigned to it
    if not found then
        return;
    end if;
    perform @extschema@.check_job(w.job_id, 'worker');
    perform @extschema@.give_back(w, '{}');
    perform @extschema@.unassign(p_worker);
    perform @extschema@.archive_worker_counts(p_worker);
    perform @extschema@.notify_ready(w.job_id);
end
$$;

-- What an idle worker asks: is there something for it to claim, and if not, how long to sleep? What another is about to
-- claim is left to that one, which calls for what it leaves: one worker is enough for what comes one by one. The more
-- workers are idle, the longer each sleeps; two of them are there when something is due. One that keeps its slot, since
-- the delegator may give it something, comes back in time to renew: its slot is free within a lease if it dies.
create or replace function @extschema@.poll(p_worker bigint) returns table (claimable boolean, sleep_seconds float8)
    language plpgsql as $$
declare
    w @extschema@.worker := @extschema@.lock_worker(p_worker);
    j @extschema@.job;
    idle int;
    before int;
begin
    perform @extschema@.keep(w.job_id);
    if not @extschema@.waits_for_delegator(p_worker) then
        perform @extschema@.release_slot(p_worker);
    end if;
    select * into w from @extschema@.worker where id = p_worker;
    select * into j from @extschema@.job where id = w.job_id;
    select count(*), count(*) filter (where o.id < w.id) into idle, before
    from @extschema@.worker o where o.job_id = w.job_id and (not o.working or o.lacks > 0);
    sleep_seconds := @extschema@.idle_seconds(w.job_id);
    if before >= 2 then
        sleep_seconds := least(60, greatest(3, sleep_seconds) * idle);
    end if;
    if w.working then
        sleep_seconds := least(sleep_seconds, j.lease_seconds / 3);
    end if;
    update @extschema@.worker set polled_at = @extschema@.clock(), expires_at = greatest(
        expires_at, @extschema@.clock() + make_interval(secs => greatest(j.lease_seconds, 3 * sleep_seconds)))
    where id = p_worker;
    claimable := coalesce(@extschema@.breaker_admits(j) > 0, true) and (
        exists (select from @extschema@.stripe where worker_id = p_worker and state = 'assigned')
        or w.lacks = 0 and @extschema@.first_ready(w.job_id) is not null
            and j.schedule_limit > (select count(*) from @extschema@.worker o
                where o.job_id = w.job_id and o.working and o.id <> w.id)
            and not exists (select from @extschema@.worker o
                where o.job_id = w.job_id and o.id <> w.id and @extschema@.comes_soon(o)));
    return next;
end
$$;

-- What a worker does now and then that is busy with what it has: others may be idle, and missed a call.
create or replace function @extschema@.keep_up(p_job int) returns void language sql as $$
    select @extschema@.check_job(p_job, 'worker');
    select @extschema@.keep(p_job);
    select @extschema@.notify_ready(p_job);
$$;

-- A worker says now and then how many units waited and ran how long since it said so last: see add_times().
create or replace function @extschema@.note_times(p_job int, p_waits bigint[], p_wait_seconds float8, p_runs bigint[],
    p_run_seconds float8) returns void language sql as $$
    select @extschema@.check_job(p_job, 'worker');
    select @extschema@.add_times(p_job, p_waits, p_wait_seconds, p_runs, p_run_seconds)
$$;

-- Which units of the worker's leases a person has cancelled, and for what reason, at most 1,000 of them: those that it
-- has begun are to be ended, and not to be begun otherwise. Each is said again until it is settled.
create or replace function @extschema@.cancellations(p_worker bigint) returns table (unit bigint, reason text)
    language plpgsql stable as $$
declare
    job constant int := (select job_id from @extschema@.worker where id = p_worker);
begin
    perform @extschema@.check_job(job, 'worker');
    return query select * from @extschema@.marked(job, p_worker)
        where exists (select from @extschema@.unit where job_id = job and cancelled is not null);
end
$$;
