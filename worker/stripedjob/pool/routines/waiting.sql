-- What a job waits for where nothing is to be claimed: one row, of the resource that goes on next, of the unit that is due next, and how many
-- resources wait for a person (counted as far as 10,000). Times are seconds from now; null where it is never or nothing.
create or replace function @extschema@.waiting(p_job int) returns table (
    resource text, resource_seconds float8, resource_reason text, barrier bigint,
    unit bigint, unit_resource text, unit_seconds float8, unit_reason text, for_person bigint
) language sql stable as $$
    select s.resource, extract(epoch from s.next_at - clock_timestamp())::float8, h.reason, b.id,
        d.id, d.resource, case when d.due_at < 'infinity' then extract(epoch from d.due_at - clock_timestamp())::float8 end, d.reason, p.n
    from @extschema@.job j
    left join lateral (
        select s.resource, s.next_at from @extschema@.stripe s
        where s.job_id = j.id and s.state = 'waiting' and s.next_at < 'infinity' order by s.next_at limit 1
    ) s on true
    left join lateral (
        select u.reason from @extschema@.unit u
        where u.job_id = j.id and u.resource = s.resource and u.state = 'ready' order by u.id limit 1
    ) h on true
    left join lateral (
        select u.id from @extschema@.unit u
        where j.on_failure = 'Block' and u.job_id = j.id and u.resource = s.resource and u.state = 'delayed' order by u.id limit 1
    ) b on true
    left join lateral (
        select u.id, u.resource, u.due_at, u.reason from @extschema@.unit u
        where u.job_id = j.id and u.state = 'delayed' order by u.due_at limit 1
    ) d on true
    cross join lateral (
        select count(*) n from (
            select from @extschema@.stripe s where s.job_id = j.id and s.state = 'waiting' and s.next_at = 'infinity' limit 10000) x
    ) p
    where j.id = p_job
$$;
