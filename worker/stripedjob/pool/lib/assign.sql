-- How resources reach workers where one process, the delegator, decides it: it leads under a term, and assigns what
-- workers want. A throttled job is one whose delegator keeps to a number of resources at a time, and to a token bucket
-- of starts, in each area.

-- How long a delegator that says nothing leads on.
create or replace function @extschema@.delegator_lease(p_job int) returns interval language sql stable as $$
    select least(@extschema@.lease(p_job), interval '10 seconds')
$$;

-- Makes what is assigned to a worker and not leased yet ready again, but for what is at p_kept.
create or replace function @extschema@.unassign(p_worker bigint, p_kept tid[] default '{}') returns void
    language plpgsql as $$
declare
    places constant tid[] := array(
        select ctid from @extschema@.stripe
        where worker_id = p_worker and state = 'assigned' and ctid <> all(p_kept) for update skip locked);
begin
    update @extschema@.stripe set state = 'ready', worker_id = null where ctid = any(places);
end
$$;

-- Whether anything is assigned to a worker of the job, and not leased yet.
create or replace function @extschema@.has_assigned(p_job int) returns boolean language sql stable as $$
    select exists (select from @extschema@.worker w join @extschema@.stripe s on s.worker_id = w.id
        and s.state = 'assigned' where w.job_id = p_job)
$$;

-- Makes ready again what a worker has left lying for a whole lease, such as one that cannot reach the lock backend.
create or replace function @extschema@.unassign_stale(p_job int) returns void language plpgsql as $$
declare
    stale_at constant timestamptz := @extschema@.clock() - @extschema@.lease(p_job);
    places constant tid[] := array(
        select s.place from @extschema@.worker w cross join lateral (
            select ctid as place from @extschema@.stripe
            where worker_id = w.id and state = 'assigned' and assigned_at < stale_at for update skip locked) s
        where w.job_id = p_job);
begin
    update @extschema@.stripe set state = 'ready', worker_id = null where ctid = any(places);
end
$$;

-- The assigned resources that a worker may lease now, at most p_resources. The delegator, where it has anything to
-- assign, is called to make up for them, and finds written down what the worker would take at its next claim, and how
-- much of it it lacks already. A resource that workers died with comes alone.
create or replace function @extschema@.pick_assigned(w @extschema@.worker, p_resources int) returns tid[]
    language plpgsql as $$
declare
    suspicious boolean;
    picked tid[];
    wanted int := 0;
    lacked int := 0;
begin
    select s.crashes > 0 into suspicious from @extschema@.stripe s
    where s.worker_id = w.id and s.state = 'assigned' order by s.rank limit 1;
    picked := array(
        select s.ctid from @extschema@.stripe s
        where s.worker_id = w.id and s.state = 'assigned' and (s.crashes > 0) = suspicious
        order by s.rank limit case when suspicious then 1 else p_resources end for update skip locked);
    if suspicious then
        perform @extschema@.unassign(w.id, picked);
    elsif exists (select from @extschema@.stripe where job_id = w.job_id and state = 'ready') then
        wanted := p_resources;
        lacked := p_resources - cardinality(picked);
    end if;
    if (wanted, lacked) <> (w.wants, w.lacks) then
        update @extschema@.worker set wants = wanted, lacks = lacked where id = w.id;
    end if;
    if wanted > 0 and (cardinality(picked) > 0 or w.lacks = 0) then
        perform @extschema@.notify_delegator(w.job_id);
    end if;
    return picked;
end
$$;

-- Whether a worker without a lease keeps its slot, since the delegator may still give it something.
create or replace function @extschema@.waits_for_delegator(p_worker bigint) returns boolean language sql stable as $$
    select exists (select from @extschema@.stripe where worker_id = p_worker and state = 'assigned')
        or exists (select from @extschema@.worker w join @extschema@.stripe s on s.job_id = w.job_id
            and s.state = 'ready'
                   where w.id = p_worker and w.lacks > 0)
$$;

-- Whom to assign to: a worker's id once for each resource that it is to have, the workers in turn. Where resources are
-- plenty, workers get their next claim while they still work on this one; where they are few, they are spread among
-- those who lack some. The rows are locked against a worker's end, so that nothing is assigned to one that has gone;
-- one that is ending is left out.
create or replace function @extschema@.open_slots(p_job int) returns bigint[] language plpgsql as $$
declare
    workers int;
    wanted int;
    share int;
    plenty boolean;
begin
    select count(*), max(wants) into workers, wanted from @extschema@.worker where job_id = p_job and wants > 0;
    if workers = 0 then
        return '{}';
    end if;
    share := @extschema@.fair_share(@extschema@.count_ready(p_job, workers, wanted), workers);
    plenty := share >= wanted;
    return array(
        with live as (
            select id, case when plenty then wants else lacks end wants from @extschema@.worker
            where job_id = p_job and wants > 0 and expires_at > @extschema@.clock() for key share skip locked
        ), open as (
            select id,
                least(share,
                    wants - (select count(*) from @extschema@.stripe s
                        where s.worker_id = live.id and s.state = 'assigned')) n
            from live
        )
        select open.id from open cross join lateral generate_series(1, open.n) turn order by turn, open.id);
end
$$;

-- Assigns ready resources, the one that has waited longest first, to p_slots one after the other; of one area, unless
-- it is null. Returns how many there were. The state of those of an area is written as stripe_area has it.
create or replace function @extschema@.assign_slots(p_job int, p_area text, p_slots bigint[]) returns int
    language plpgsql as $$
declare
    picked tid[];
    share record;
begin
    if p_area is null then
        picked := array(select ctid from @extschema@.stripe where job_id = p_job and state = 'ready'
            order by rank limit cardinality(p_slots) for update skip locked);
    else
        picked := array(select ctid from @extschema@.stripe
            where job_id = p_job and state is not distinct from 'ready' and area = p_area
            order by rank limit cardinality(p_slots) for update skip locked);
    end if;
    for share in
        select p.worker_id, array_agg(p.place) places from unnest(picked, p_slots) p(place, worker_id)
        where p.place is not null group by p.worker_id
    loop
        update @extschema@.stripe set state = 'assigned', worker_id = share.worker_id, assigned_at = @extschema@.clock()
        where ctid = any(share.places);
    end loop;
    return cardinality(picked);
end
$$;

-- Fills the bucket of an area up to now, and returns what is in it. It holds as many tokens as resources may be out at
-- a time, and no more than a period's; so of starts there are at most that many, and `starts_max` more in each period.
create or replace function @extschema@.refill(j @extschema@.job, p_area text) returns float8 language sql as $$
    insert into @extschema@.area as a (job_id, area, tokens, refilled_at)
    values (j.id, p_area, least(j.outstanding_max, j.starts_max), @extschema@.clock())
    on conflict (job_id, area) do update set refilled_at = excluded.refilled_at, tokens = least(excluded.tokens,
        a.tokens + extract(epoch from excluded.refilled_at - a.refilled_at) * j.starts_max / j.period_seconds)
    returning tokens
$$;

-- The areas that have a ready resource, at most 10,000 of them, the one that was served longest ago first. The index is
-- skipped through.
create or replace function @extschema@.ready_areas(p_job int) returns setof text language sql stable as $$
    with recursive found as (
        select (select min(area) from @extschema@.stripe
            where job_id = p_job and state is not distinct from 'ready' and area is not null) as area, 1 as n
        union all
        select (select min(area) from @extschema@.stripe
            where job_id = p_job and state is not distinct from 'ready' and area > found.area), n + 1
        from found where found.area is not null and n < 10000
    )
    select found.area from found left join lateral (
        select refilled_at from @extschema@.area a where a.job_id = p_job and a.area = found.area limit 1) a on true
    where found.area is not null order by a.refilled_at nulls first
$$;

-- Invariant: in each area at most `outstanding_max` resources are assigned or leased, and none is assigned without a
-- token of its bucket. Both are judged in the transaction that assigns, which has the delegator's row: there is never a
-- second one beside it.
create or replace function @extschema@.assign_throttled(
    j @extschema@.job, p_slots bigint[], out assigned int, out wait_seconds float8
) language plpgsql as $$
declare
    this_area text;
    tokens float8;
    room int;
    n int;
begin
    assigned := 0;
    for this_area in select * from @extschema@.ready_areas(j.id) loop
        exit when assigned >= cardinality(p_slots);
        room := j.outstanding_max - (select count(*) from @extschema@.stripe s
            where s.job_id = j.id and s.area = this_area and s.state in ('assigned', 'leased'));
        continue when room <= 0;
        tokens := @extschema@.refill(j, this_area);
        if tokens < 1 then
            wait_seconds := least(wait_seconds, (1 - tokens) * j.period_seconds / j.starts_max);
            continue;
        end if;
        n := @extschema@.assign_slots(j.id, this_area,
            p_slots[assigned + 1 : assigned + least(room, floor(tokens)::int)]);
        update @extschema@.area a set tokens = a.tokens - n where a.job_id = j.id and a.area = this_area;
        assigned := assigned + n;
    end loop;
end
$$;

-- Calls the workers that were assigned something and have nothing else to do.
create or replace function @extschema@.notify_assigned(p_slots bigint[]) returns void language sql as $$
    select pg_notify(@extschema@.channel(w.job_id::text), w.id::text) from @extschema@.worker w
    where w.id = any(p_slots)
        and (select s.fence from @extschema@.stripe s
            where s.worker_id = w.id and s.state = 'leased' limit 1) is null
$$;
