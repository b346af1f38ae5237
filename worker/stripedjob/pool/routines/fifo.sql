-- Strict order, where a job's onFailure is Block: nothing of a resource is worked before what was enqueued ahead of it. A unit that failed
-- stays at the head, and its resource waits; a held one likewise; a delayed one is a barrier, which the claim does not go past.

-- What claim hands out where order is strict: of each leased resource, the units before its first barrier. A resource that begins with
-- a barrier is not leased after all; it waits until that unit is due. Where units stand before one, `woken` sees to it that the end of
-- the lease does not take the resource for idle.
-- Invariant: barriers and units are read by one statement, so from one snapshot: it has no unit without what was committed before it.
create or replace function @extschema@.hand_out_in_order(p_job int, p_resources text[], p_fences bigint[], p_suspect boolean, p_units int)
returns table (resource text, fence bigint, suspect boolean, ids bigint[], attempts int[], crashes int[], payloads text[])
language plpgsql as $$
#variable_conflict use_column
declare
    no_barrier constant bigint := 9223372036854775807;
begin
    return query
    with heads as materialized (
        select l.resource, l.fence, b.due_at, u.*
        from unnest(p_resources, p_fences) l(resource, fence)
        left join lateral (
            select id, due_at from @extschema@.unit
            where job_id = p_job and resource = l.resource and state = 'delayed' and blocking order by id limit 1
        ) b on true
        cross join lateral (
            select array_agg(h.id) ids, array_agg(h.attempts::int) attempts, array_agg(h.crashes::int) crashes,
                array_agg(h.payload::text) payloads
            from (
                select id, attempts, crashes, payload from @extschema@.unit
                where job_id = p_job and resource = l.resource and state = 'ready' and id < coalesce(b.id, no_barrier)
                order by id limit p_units + 1
            ) h
        ) u
    ), held_back as (
        update @extschema@.stripe s set state = 'waiting', worker_id = null,
            next_at = (select h.due_at from heads h where h.resource = s.resource)
        where s.job_id = p_job and s.resource = any(array(select h.resource from heads h where h.ids is null and h.due_at is not null))
    ), cut as (
        update @extschema@.stripe s set woken = true
        where s.job_id = p_job and s.resource = any(array(select h.resource from heads h where h.ids is not null and h.due_at is not null))
    )
    select h.resource, h.fence, p_suspect, h.ids, h.attempts, h.crashes, h.payloads
    from heads h where h.ids is not null or h.due_at is null;
end
$$;

-- Whether a resource that waits for its barrier has a ready unit ahead of it: one whose transaction committed late, or that was revived.
create or replace function @extschema@.has_unit_before_barrier(s @extschema@.stripe) returns boolean language sql stable as $$
    select exists (
        select from @extschema@.unit b
        where b.job_id = s.job_id and b.resource = s.resource and b.state = 'delayed' and b.blocking and b.due_at = s.next_at
            and exists (select from @extschema@.unit u
                where u.job_id = s.job_id and u.resource = s.resource and u.state = 'ready' and u.id < b.id))
$$;

-- Brings the units of a job whose onFailure has changed to the new one. Where it was Block, resources that wait for a barrier or for a
-- person go on.
create or replace function @extschema@.fit_units(p_job int) returns void language plpgsql as $$
declare
    blocks constant boolean := (select on_failure = 'Block' from @extschema@.job where id = p_job);
begin
    if not blocks then
        update @extschema@.stripe s set next_at = clock_timestamp()
        from (select resource from @extschema@.stripe where job_id = p_job and state = 'waiting' order by resource for update) o
        where s.job_id = p_job and s.resource = o.resource and (s.next_at = 'infinity' or exists (
            select from @extschema@.unit u
            where u.job_id = p_job and u.resource = s.resource and u.state = 'delayed' and u.blocking));
    end if;
    update @extschema@.unit set blocking = nullif(blocks, false) where job_id = p_job and state = 'delayed';
end
$$;
