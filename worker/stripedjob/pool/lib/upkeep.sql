-- What keeps a pool moving. Any worker, or the operator, runs it as often as it likes; one at a time does it, the
-- others go on.

-- Nothing here waits for a lock, and what was leased by the dead comes first: a process that was stopped in the middle
-- of a transaction keeps neither its own resource nor anybody else's from being worked on.
--
-- Its commit waits for no disk and no stand-by: what a crash takes back is done again, and whatever is decided on top
-- of it, a claim above all, is durable together with it, since the log is written in order.
create or replace function @extschema@.keep(p_job int) returns void language plpgsql as $$
begin
    perform set_config('synchronous_commit', 'off', true);
    if @extschema@.needs_upkeep(p_job) and @extschema@.take_turn(p_job, 'upkeep') then
        perform @extschema@.reap(p_job);
        perform @extschema@.wake_due(p_job);
        perform @extschema@.fold_wakes(p_job);
        perform @extschema@.refit(p_job);
        perform @extschema@.end_cancelled(p_job);
        perform @extschema@.end_waits(p_job);
        perform @extschema@.remove_dead(p_job);
    end if;
end
$$;

-- Takes a job's turn at one kind of periodic work until the end of the transaction; false: somebody else is at it. Only
-- who may write the table can take it, so that no outsider can keep it.
create or replace function @extschema@.take_turn(p_job int, p_kind text) returns boolean language plpgsql as $$
begin
    perform from @extschema@.turn where job_id = p_job and kind = p_kind for no key update skip locked;
    return found;
end
$$;

-- Delayed units whose time has come are ready. The time is a variable, here and wherever an index is to be read by it:
-- @extschema@.clock() in the condition itself would be evaluated again for each row of the whole index.
create or replace function @extschema@.wake_due(p_job int) returns void language plpgsql as $$
declare
    this_moment constant timestamptz := @extschema@.clock();
begin
    with due as (
        update @extschema@.unit set state = 'ready' where id = any(array(
            select id from @extschema@.unit where job_id = p_job and state = 'delayed' and due_at <= this_moment
            order by due_at limit 2000 for update skip locked))
        returning id, resource, importance, due_at
    ), woken as (
        insert into @extschema@.wake (job_id, resource, units, importance)
        select p_job, resource, count(*), max(importance) from due group by resource order by min(due_at), min(id)
        returning units
    )
    update @extschema@.flow set delayed_out = delayed_out + (select sum(units) from woken)
    where job_id = p_job and exists (select from woken);
end
$$;

-- The area of a resource, for a throttle: the value of the job's label in the payload of its first ready unit; all of
-- one job is one area where there is no label. A value that cannot be read is none, and a long one stands for itself by
-- a digest: whatever the payload holds, the resource has an area.
create or replace function @extschema@.area_of(j @extschema@.job, p_resource text) returns text
    language plpgsql stable as $$
declare
    area text;
begin
    if j.area_label is null then
        return '';
    end if;
    select payload::json ->> j.area_label into area from @extschema@.unit
    where job_id = j.id and resource >= p_resource and resource <= p_resource and state = 'ready'
    order by resource, id limit 1;
    return case when octet_length(area) > 300 then left(area, 60) || ' md5:' || md5(area) else coalesce(area, '') end;
exception when data_exception or program_limit_exceeded then
    return '';
end
$$;

-- Folds wakes into stripes. Invariant: no wake-up is lost. A wake is removed in the transaction that makes its stripe
-- ready, or marks it as woken where it is leased, so that the end of the lease makes it ready. It waits for nobody:
-- wakes of a resource whose stripe is locked, by a settlement or by a handler's transaction that has completed its
-- units and not committed yet, are left for the next time.
create or replace function @extschema@.fold_wakes(p_job int) returns void language plpgsql as $$
declare
    bound constant int := 5000;
    wakes tid[]; -- nobody moves them: who removes any has upkeep's turn
    resources text[];
    there text[];
    free text[];
    places tid[];
    locked text[] := '{}';
    last_id bigint := coalesce(@extschema@.recall('wakes', p_job)::bigint, 0);
begin
    for pass in 1 .. 4 loop -- further ones where all that the first finds is locked
        select array_agg(ctid), array_agg(distinct resource), max(id) into wakes, resources, last_id
        from (select ctid, id, resource from @extschema@.wake where job_id = p_job and id > last_id order by id
            limit bound) k;
        there := @extschema@.with_stripe(p_job, resources);
        select array_agg(f.resource), array_agg(f.place) into free, places from @extschema@.lock_free(p_job, there) f;
        locked := array(select unnest(there) except select unnest(free));
        perform @extschema@.fold_these(p_job, wakes, locked, free, places);
        exit when wakes is null or cardinality(wakes) < bound or cardinality(locked) < cardinality(resources);
    end loop;
end
$$;

-- Folds these wakes, but for those of p_locked, into the stripes that are there, of p_free, at p_places, and into new
-- ones: nobody makes one without upkeep's turn. The job is read once: a join would look it up for each of them.
create or replace function @extschema@.fold_these(
    p_job int, p_wakes tid[], p_locked text[], p_free text[], p_places tid[]
) returns void language sql as $$
    with taken as (
        delete from @extschema@.wake where ctid = any(p_wakes) and resource <> all(p_locked)
            returning id, resource, units, delayed, importance
    ), counted as (
        update @extschema@.flow set ready_in = ready_in + (select sum(units) from taken),
            delayed_in = delayed_in + (select sum(delayed) from taken)
        where job_id = p_job and exists (select from taken)
    ), woken as (
        select resource, min(id) first_id, sum(units) units, max(importance) importance, max(place) place from (
            select id, resource, units, importance, null::tid as place from taken where resource <> ''
            union all select null, f.resource, null, null, f.place from unnest(p_free, p_places) f(resource, place)) k
        group by resource having count(units) > 0
    ), there as (
        update @extschema@.stripe s set
            ready = s.ready + w.units, woken = true, importance = greatest(s.importance, w.importance),
            rank = least(s.rank, @extschema@.clock() - w.importance * interval '1 minute'),
            next_at = case when s.state = 'waiting' and @extschema@.may_go_on(s) then @extschema@.clock()
                else s.next_at end
        from (select * from woken where place is not null) w where s.ctid = w.place
    )
    insert into @extschema@.stripe (job_id, resource, ready, importance, rank, area)
    select p_job, w.resource, w.units, w.importance, @extschema@.clock() - w.importance * interval '1 minute',
        case when (select outstanding_max from @extschema@.job where id = p_job) is not null
            then @extschema@.area_of((select j from @extschema@.job j where j.id = p_job), w.resource) end
    from woken w where w.place is null
    order by w.first_id -- in which they came, by their rank as well
$$;

-- Resources whose wait is over are ready, and since when they are is their rank: waiting is no claim to go first.
create or replace function @extschema@.end_waits(p_job int) returns void language plpgsql as $$
declare
    this_moment constant timestamptz := @extschema@.clock();
    places constant tid[] := array(
        select ctid from @extschema@.stripe where job_id = p_job and state = 'waiting' and next_at <= this_moment
        order by next_at limit 2000 for update skip locked);
begin
    update @extschema@.stripe set state = 'ready', next_at = null,
        rank = greatest(rank, next_at - importance * interval '1 minute')
    where ctid = any(places);
end
$$;

-- Whether there are wakes. Where all that look have to walk through folded ones, since a snapshot that is open
-- elsewhere keeps them in the index, this session begins for a while where it found one last, or where it found that
-- there was none, as for ready resources (first_ready()).
create or replace function @extschema@.has_wakes(p_job int) returns boolean language plpgsql as $$
declare
    slow constant interval := '5 milliseconds';
    began timestamptz := @extschema@.clock();
    known constant bigint := @extschema@.recall('wakes', p_job)::bigint; -- 0: one look was slow
    is_sure constant boolean := known is not null or @extschema@.were_slow('wakes', p_job);
    place bigint := coalesce(known, 0);
    newest bigint; -- that there was when a look from the start began
    first_id bigint;
begin
    loop
        if is_sure and place = 0 then
            newest := pg_sequence_last_value(pg_get_serial_sequence('@extschema@.wake', 'id'));
        end if;
        select id into first_id from @extschema@.wake where job_id = p_job and id > place order by id limit 1;
        exit when first_id is not null or place = 0 or not @extschema@.may_look('wakes', p_job);
        place := 0; -- for those of a transaction that began before others and ended after them
        began := @extschema@.clock();
    end loop;
    if known > 0 or @extschema@.clock() > began + slow then
        perform @extschema@.remember('wakes', p_job,
            case when is_sure then coalesce(first_id - 1, newest, known) else 0 end::text,
            case when place = 0 then @extschema@.clock() - began end);
    elsif known is null then
        perform @extschema@.forget('wakes');
    end if;
    return first_id is not null;
end
$$;

-- Whether upkeep would find anything to do: most often not, and this costs some looks into indexes.
create or replace function @extschema@.needs_upkeep(p_job int) returns boolean language plpgsql as $$
declare
    this_moment constant timestamptz := @extschema@.clock();
begin
    return @extschema@.has_wakes(p_job)
        or exists (select from @extschema@.unit where job_id = p_job and cancelled is not null)
        or exists (select from @extschema@.unit where job_id = p_job and state = 'delayed' and due_at <= this_moment)
        or exists (select from @extschema@.stripe where job_id = p_job and state = 'waiting' and next_at <= this_moment)
        or exists (select from @extschema@.worker where job_id = p_job and expires_at < this_moment)
        or exists (select from @extschema@.turn where job_id = p_job and kind = 'refit' and at < 'infinity');
end
$$;

-- Brings the resources of a job whose strategy or onFailure has changed to the new one, 1,000 at a time: their areas as
-- the throttle counts them, and where order is strict no more, those that wait for a barrier or for a person go on.
-- Until it is through, nothing is assigned in a throttled job. It is part of upkeep, so that no wake is folded by the
-- old ways meanwhile. It goes on before the first that is locked.
create or replace function @extschema@.refit(p_job int) returns void language plpgsql as $$
declare
    bound constant int := 1000;
    come_to text;
    j @extschema@.job;
    resources text[];
    free text[];
    places tid[];
    skipped text;
begin
    select coalesce(detail, '') into come_to from @extschema@.turn
    -- else apply_job() is at it
    where job_id = p_job and kind = 'refit' and at < 'infinity' for no key update skip locked;
    if not found then
        return;
    end if;
    select * into j from @extschema@.job where id = p_job;
    resources := array(
        select resource from @extschema@.stripe where job_id = p_job and resource > come_to order by resource
            limit bound);
    select array_agg(f.resource), array_agg(f.place) into free, places from @extschema@.lock_free(p_job, resources) f;
    update @extschema@.stripe s set
        area = case when j.outstanding_max is not null then @extschema@.area_of(j, s.resource) end,
        next_at = case when s.state = 'waiting' and not s.paused and j.on_failure <> 'Block' and (
            s.next_at = 'infinity' or (
            select id from @extschema@.unit u where u.job_id = p_job and u.resource = s.resource
                and u.state = 'delayed' limit 1) is not null) then @extschema@.clock() else s.next_at end
    where s.ctid = any(places);
    skipped := (select min(resource) from (select unnest(resources) resource except select unnest(free)) r);
    update @extschema@.turn set
        detail = case when skipped is null then resources[cardinality(resources)]
            else coalesce((select max(r.resource) from unnest(free) r(resource) where r.resource < skipped),
                come_to) end,
        at = case when skipped is null
            and cardinality(resources) < bound then 'infinity' else '-infinity' end::timestamptz
    where job_id = p_job and kind = 'refit';
end
$$;

-- When something happens by itself next: a unit is due, a wait is over, the lease of a worker that works runs out, or
-- the breaker has been open for long enough. Null: nothing does, ever.
create or replace function @extschema@.next_event(p_job int) returns timestamptz language sql stable as $$
    select nullif(least(
        (select due_at from @extschema@.unit where job_id = p_job and state = 'delayed' and due_at is not null
            order by due_at limit 1),
        (select next_at from @extschema@.stripe where job_id = p_job and state = 'waiting' order by next_at limit 1),
        (select min(expires_at) from @extschema@.worker where job_id = p_job and working),
        (select open_until from @extschema@.job where id = p_job and open_until > @extschema@.clock())), 'infinity')
$$;

-- How often the idle workers of a job ask, all together, and its delegator: every 3 seconds, and the less often the
-- more jobs share the pool; but not before what happens by itself next.
create or replace function @extschema@.idle_seconds(p_job int) returns float8 language sql as $$
    select greatest(0.01,
        least(greatest(3, (select count(*) from (select from @extschema@.job limit 2000) j) * 0.06), 60,
        extract(epoch from @extschema@.next_event(p_job) - @extschema@.clock())))
$$;
