-- What of leased resources is handed out. Strict order, where a job's onFailure is Block: nothing of a resource is
-- worked before what was enqueued ahead of it. A unit that failed stays at the head, and its resource waits; a held one
-- likewise; a delayed one is a barrier, which the claim does not go past.

-- Fills in the units of leased resources, p_units of each at most, while their payloads fit into p_bytes; the first
-- unit always does. What is left of a resource makes it `more`; a resource of which nothing fits is not leased after
-- all. With strict order, neither is one that begins with a barrier: it waits until that unit is due. Where units stand
-- before one, `woken` sees to it that the end of the lease does not take the resource for idle.
-- This is a statement of its own on purpose: in the one that leases, it would see the snapshot taken before the
-- resources were locked, and units that another worker has just finished would be handed out again.
-- Invariant: barriers and units are read by one statement, so from one snapshot: it has no unit without what was
-- committed before it.
create or replace function @extschema@.hand_out(j @extschema@.job, leased @extschema@.claimed, p_units int,
    p_bytes bigint)
returns @extschema@.claimed language plpgsql as $$
declare
    seconds constant float8 := date_part('epoch', @extschema@.clock());
    no_barrier constant bigint := 9223372036854775807;
    in_order constant boolean := j.on_failure = 'Block';
    too_much text[];
    barred text[];
    barred_until timestamptz[];
    cut text[];
begin
    with lease as (
        select l.n, l.resource, l.fence, b.id as barrier, b.due_at
        from unnest(leased.resources, leased.fences) with ordinality l(resource, fence, n)
        left join lateral (
            select id, due_at from @extschema@.unit
            where in_order and job_id = j.id and resource >= l.resource and resource <= l.resource
                and state = 'delayed'
            order by resource, id limit 1
        ) b on true
    ), candidate as materialized (
        select l.*, h.*, sum(octet_length(h.payload)) over (order by l.n, h.id) - octet_length(h.payload) < p_bytes
            and h.place <= p_units as fits
        from lease l left join lateral (
            select id, attempts, crashes, payload, traceparent, greatest(enqueued_at, unit.due_at) as since,
                row_number() over (order by unit.resource, id) as place from @extschema@.unit
            where job_id = j.id and unit.resource >= l.resource
                and (unit.resource, id) < (l.resource, coalesce(l.barrier, no_barrier)) and state = 'ready'
                and cancelled is null
            order by unit.resource, id limit p_units + 1
        ) h on true
    ), handed as (
        select n, resource, fence, barrier, due_at, count(id) as there, count(id) filter (where fits) as units,
            min(since) as oldest, max(since) as newest
        from candidate group by n, resource, fence, barrier, due_at
    ), kept as (
        select * from handed where units > 0 or there = 0 and barrier is null order by n
    ), leases as (
        select array_agg(resource) resources, array_agg(fence) fences, array_agg(units::int) counts,
            array_agg(there > units) more,
            array_agg(@extschema@.waited_us(seconds, oldest)) oldest,
            array_agg(@extschema@.waited_us(seconds, newest)) newest,
            array_agg(resource) filter (where barrier is not null) cut
        from kept
    ), units as (
        select array_agg(id) ids, array_agg(attempts::int) attempts, array_agg(crashes::int) crashes,
            array_agg(payload) payloads, case when count(traceparent) > 0 then array_agg(traceparent) end traceparents
        from (select * from candidate where fits order by n, id) f
    ), barred as (
        select array_agg(resource) resources, array_agg(due_at) due_at from handed
            where there = 0 and barrier is not null
    )
    select l.resources, l.fences, l.counts, l.more, l.cut, u.ids, u.attempts, u.crashes, u.payloads,
        (select array_agg(resource) from handed where there > 0 and units = 0),
        b.resources, b.due_at, l.oldest, l.newest, u.traceparents
    into leased.resources, leased.fences, leased.counts, leased.more, cut, leased.ids, leased.attempts, leased.crashes,
    leased.payloads,
        too_much, barred, barred_until, leased.oldest, leased.newest, leased.traceparents
    from leases l, units u, barred b;
    if too_much is not null then
        update @extschema@.stripe set
            state = case when j.delegated then 'assigned' else 'ready' end::@extschema@.stripe_state,
            worker_id = case when j.delegated then worker_id end
        where ctid = any((select @extschema@.places(j.id, too_much))::tid[]);
    end if;
    if barred is not null then
        update @extschema@.stripe s set state = 'waiting', worker_id = null, next_at = b.until
        from (select b.until, t.place from unnest(barred, barred_until) b(resource, until) cross join lateral (
            select ctid as place from @extschema@.stripe where job_id = j.id and resource = b.resource limit 1) t) b
        where s.ctid = b.place;
    end if;
    if cut is not null then
        update @extschema@.stripe set woken = true where ctid = any((select @extschema@.places(j.id, cut))::tid[]);
    end if;
    return leased;
end
$$;

-- Whether a resource that waits may go on: for a person, and it has no held unit any more; for its barrier, and it has
-- a ready unit ahead of that: one whose transaction committed late, or that was revived. Not where it is paused.
create or replace function @extschema@.may_go_on(s @extschema@.stripe) returns boolean language sql stable as $$
    select case when s.paused then false
        when s.next_at = 'infinity' then not @extschema@.has_held(s.job_id, s.resource)
        else coalesce((
            select b.id from @extschema@.unit b
            where b.job_id = s.job_id and b.resource >= s.resource and b.resource <= s.resource
                and b.state = 'delayed' and b.due_at is not distinct from s.next_at
            order by b.resource desc, b.id desc limit 1) > @extschema@.first_unit(s.job_id, s.resource), false) end
$$;
