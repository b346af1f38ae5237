-- One row of numbers for each job; the totals are since the job was made. Units are counted as they come and go;
-- resources are counted as far as 10,000 of each kind.
create or replace view @extschema@.job_status as
select j.id, j.namespace, j.job_type, j.schedule_limit,
    r.ready + w.assigned as ready_resources, w.leased as leased_resources, v.waiting as waiting_resources,
    greatest(0, f.ready_in + k.units - t.done - t.delayed - t.held - t.dead - w.completed) as pending,
    greatest(0, f.delayed_in + k.delayed + t.delayed - f.delayed_out) as delayed,
    w.in_flight,
    greatest(0, t.held - f.held_out) as held, greatest(0, t.dead - f.dead_out) as dead,
    w.workers, w.working,
    t.done as total_done, t.retried as total_retried, t.held as total_held, t.dead as total_dead,
    t.crashed as total_crashed,
    j.stale as total_stale, t.claimed as total_claimed, t.lock_tries as total_lock_tries,
    t.lock_refusals as total_lock_refusals,
    j.paused_by, j.paused_why, to_json(j.paused_at) #>> '{}' as paused_at,
    case when j.open_until is not null then j.alike end as breaker_failures,
    case when j.open_until is not null then j.alike_kind end as breaker_kind,
    to_json(j.open_until) #>> '{}' as breaker_until,
    extract(epoch from j.open_until - @extschema@.clock())::float8 as breaker_seconds
from @extschema@.job j
join @extschema@.flow f on f.job_id = j.id
cross join lateral (
    select count(*) workers, count(*) filter (where o.working) working,
        coalesce(sum(o.done), 0)::bigint done, coalesce(sum(o.retried), 0)::bigint retried,
        coalesce(sum(o.delayed), 0)::bigint delayed,
        coalesce(sum(o.held), 0)::bigint held, coalesce(sum(o.dead), 0)::bigint dead,
        coalesce(sum(o.crashed), 0)::bigint crashed,
        coalesce(sum(o.claimed), 0)::bigint claimed, coalesce(sum(o.lock_tries), 0)::bigint lock_tries,
        coalesce(sum(o.lock_refusals), 0)::bigint lock_refusals,
        coalesce(sum(l.leased), 0)::bigint leased, coalesce(sum(l.in_flight), 0)::bigint in_flight,
        coalesce(sum(l.completed), 0)::bigint completed,
        coalesce(sum(a.assigned), 0)::bigint assigned
    from @extschema@.worker o
    cross join lateral (
        select count(*) leased, sum(ready) in_flight, sum(completed) completed from @extschema@.stripe
            where worker_id = o.id and state = 'leased'
    ) l
    cross join lateral (select count(*) assigned from @extschema@.stripe
        where worker_id = o.id and state = 'assigned') a
    where o.job_id = j.id
) w
cross join lateral (
    select j.done + w.done as done, j.retried + w.retried as retried, j.delayed + w.delayed as delayed,
        j.held + w.held as held,
        j.dead + w.dead as dead, j.crashed + w.crashed as crashed, j.claimed + w.claimed as claimed,
        j.lock_tries + w.lock_tries as lock_tries, j.lock_refusals + w.lock_refusals as lock_refusals
) t
cross join lateral (
    select count(*) ready from (select from @extschema@.stripe where job_id = j.id and state = 'ready' limit 10000) s
) r
cross join lateral (
    select count(*) waiting
        from (select from @extschema@.stripe where job_id = j.id and state = 'waiting' limit 10000) s
) v
cross join lateral (
    select coalesce(sum(units), 0)::bigint units, coalesce(sum(delayed), 0)::bigint delayed
    from (select units, delayed from @extschema@.wake where job_id = j.id limit 10000) s
) k;
