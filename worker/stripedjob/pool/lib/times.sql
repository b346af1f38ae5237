-- How long units wait and run: what is kept of it (docs/adr/0024-times.md).

-- The sum of counts by bucket, which may have different numbers of buckets.
create or replace function @extschema@.added(p_one bigint[], p_other bigint[]) returns bigint[]
    language sql immutable as $$
    select array(select coalesce(one, 0) + coalesce(other, 0)
        from unnest(p_one, p_other) with ordinality u(one, other, n) order by n)
$$;

-- Adds to how many units of a job waited and ran how long, in this minute and all in all: counts by bucket, and their
-- sums in seconds. Each is within a bound, so that nobody can say what no number could hold.
create or replace function @extschema@.add_times(
    p_job int, p_waits bigint[], p_wait_seconds float8, p_runs bigint[], p_run_seconds float8
) returns void language plpgsql as $$
begin
    if (cardinality(p_waits) <= 64 and cardinality(p_runs) <= 64 and 0 <= all(p_waits || p_runs)
        and 1e9 >= all(p_waits || p_runs) and p_wait_seconds between 0 and 1e15 and p_run_seconds between 0 and 1e15
        ) is not true then
        raise exception 'these are no counts of times' using errcode = 'data_exception';
    end if;
    insert into @extschema@.times as t (job_id, minute, waits, wait_seconds, runs, run_seconds)
    select j.id, minute, p_waits, p_wait_seconds, p_runs, p_run_seconds
    from @extschema@.job j, unnest(array['-infinity', date_trunc('minute', @extschema@.clock())]) minute
    where j.id = p_job order by minute
    on conflict (job_id, minute) do update set
        waits = @extschema@.added(t.waits, excluded.waits), wait_seconds = t.wait_seconds + excluded.wait_seconds,
        runs = @extschema@.added(t.runs, excluded.runs), run_seconds = t.run_seconds + excluded.run_seconds;
end
$$;

-- For how many microseconds something waits since a time, where it is now p_now seconds after 1970: from 0 to 31 years,
-- whatever the time is. Stable, as date_part() is: else Postgres would not put its body in where it is called.
create or replace function @extschema@.waited_us(p_now float8, p_since timestamptz) returns bigint
    language sql stable as $$
    select (1e6::float8 * greatest(0, least(1e9, p_now - date_part('epoch', p_since))))::bigint
$$;

-- What workers have said of a job in the last minutes, as one JSON object: counts by bucket, and sums in seconds. The
-- last of these minutes is not over yet: `seconds` says how much time it is all in all.
create or replace function @extschema@.recent_times(p_job int, p_minutes int) returns json language sql stable as $$
    with span as (
        select date_trunc('minute', @extschema@.clock()) - make_interval(mins => least(p_minutes, 60) - 1) as since
    ), kept as materialized (
        select t.* from span, @extschema@.times t
        where t.job_id = p_job and t.minute >= span.since and t.minute > '-infinity'
    )
    select json_build_object(
        'seconds', date_part('epoch', @extschema@.clock() - span.since),
        'waits', (select coalesce(json_agg(n order by place), '[]') from (
            select place, sum(n) n from kept k, unnest(k.waits) with ordinality u(n, place) group by place) w),
        'wait_seconds', (select coalesce(sum(wait_seconds), 0) from kept),
        'runs', (select coalesce(json_agg(n order by place), '[]') from (
            select place, sum(n) n from kept k, unnest(k.runs) with ordinality u(n, place) group by place) r),
        'run_seconds', (select coalesce(sum(run_seconds), 0) from kept))
    from span
$$;

-- Forgets minutes that are over for an hour.
create or replace function @extschema@.expire_times(p_job int) returns void language plpgsql as $$
declare
    kept_since constant timestamptz := @extschema@.clock() - interval '1 hour';
begin
    delete from @extschema@.times where job_id = p_job and minute = any(array(
        select minute from @extschema@.times
        where job_id = p_job and minute > '-infinity' and minute < kept_since
        order by minute limit 100 for update skip locked));
end
$$;
