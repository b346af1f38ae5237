-- How idle workers hear that there is something for them: NOTIFY striped_<schema>_<job>, with the ids of those who are
-- to come, or '*' for all; and the operator, that there is something for a job without workers: NOTIFY
-- striped_<schema>_operator. Nothing depends on it: who hears nothing asks by itself, now and then.

-- The name of a channel, of which Postgres takes 63 bytes: a long schema stands for itself by a digest. names.py makes
-- the same.
create or replace function @extschema@.channel(p_of text) returns text language sql stable as $$
    select 'striped_' || case when length(convert_to(s, 'UTF8')) <= 32 then s
        else left(encode(sha256(convert_to(s, 'UTF8')), 'hex'), 32) end || '_' || p_of
    from (select (parse_ident('@extschema@'))[1] s) schema_name
$$;

-- Calls idle workers, as many as there are resources for and slots free: of those that gave a sign of life a moment ago
-- first those that worked last, so that the others may sleep; one that was killed is called for nothing for that moment
-- at most.
create or replace function @extschema@.notify_idle(p_job int, p_resources int) returns void language plpgsql as $$
declare
    bound constant int := 64; -- of those who are called at once: each calls others for what it leaves
    -- two idle workers ask more often than that
    lately constant timestamptz := @extschema@.clock() - interval '4 seconds';
    wanted int;
    idle bigint[];
begin
    select least(p_resources, bound, j.schedule_limit - count(*) filter (where o.working)),
        array_agg(o.id order by coalesce(greatest(o.settled_at, o.polled_at) > lately, false) desc,
            o.settled_at desc nulls last, o.id)
            filter (where not o.working)
    into wanted, idle
    from @extschema@.job j join @extschema@.worker o on o.job_id = j.id where j.id = p_job group by j.id;
    if wanted > 0 and idle is not null then
        perform pg_notify(@extschema@.channel(p_job::text), array_to_string(idle[1:wanted], ','));
    end if;
end
$$;

-- Calls an idle worker or two where resources are ready; of a delegated job its delegator does so.
create or replace function @extschema@.notify_ready(p_job int) returns void language sql as $$
    select @extschema@.notify_idle(id, @extschema@.count_ready(id, 1, 1, @extschema@.first_ready(id)))
    from @extschema@.job where id = p_job and not delegated
$$;

-- Calls the delegator: NOTIFY striped_<schema>_<job>_delegator.
create or replace function @extschema@.notify_delegator(p_job int) returns void language sql as $$
    select pg_notify(@extschema@.channel(p_job || '_delegator'), '')
$$;

-- When it is, in places of 10 ms, and whose: 32 bits of the one, 31 of the other.
create or replace function @extschema@.call_place(p_job int) returns bigint language sql volatile as $$
    select ((date_part('epoch', @extschema@.clock()) * 100)::bigint & 4294967295) << 31 | p_job
$$;

-- A time before which the last call of this job was not, if that is less than 100 ms ago; else null.
create or replace function @extschema@.called_since(p_job int) returns timestamptz language plpgsql as $$
declare
    last constant bigint := pg_sequence_last_value('@extschema@.called');
    places constant bigint := (@extschema@.call_place(p_job) - last) >> 31;
begin
    if last & 2147483647 = p_job and places between 0 and 9 then
        return @extschema@.clock() - (places + 1) * interval '10 milliseconds';
    end if;
    return null;
end
$$;

-- Whether a worker is about to claim again: it has just settled, and has nothing else at work.
create or replace function @extschema@.comes_soon(w @extschema@.worker) returns boolean language sql volatile as $$
    select w.working and w.lacks = 0 and w.settled_at > @extschema@.clock() - interval '10 milliseconds'
$$;

-- Calls somebody idle, unless a worker is just about to claim again, or was called and has 100 ms to come. NOTIFY makes
-- the commits of those who use it wait for each other, so of the transactions that end at the same time one does;
-- whoever comes sees the units of most others, and calls for what is left. The operator, which is called where there
-- are no workers, puts off by itself what it hears too often. What a transaction sees that began long before is no
-- decision for others.
create or replace function @extschema@.decide_call(p_job int) returns void language plpgsql as $$
declare
    as_of_now constant boolean := current_setting('transaction_isolation') = 'read committed';
    called constant timestamptz := @extschema@.called_since(p_job);
    some_idle boolean;
    some_back boolean;
    some_came boolean;
begin
    if as_of_now then
        perform setval('@extschema@.decided', @extschema@.call_place(p_job));
    end if;
    select bool_or(not working or lacks > 0),
        bool_or(@extschema@.comes_soon(w)),
        bool_or(greatest(polled_at, settled_at) > called)
    into some_idle, some_back, some_came from @extschema@.worker w where job_id = p_job;
    if some_back or not coalesce(some_idle, true) or some_idle and called is not null and some_came is not true
        or not pg_try_advisory_xact_lock(hashtext('@extschema@ calls'), p_job) then
        return;
    end if;
    if some_idle is null then
        perform pg_notify(@extschema@.channel('operator'), p_job::text);
    elsif (select delegated from @extschema@.job where id = p_job) then
        perform @extschema@.notify_delegator(p_job);
    else
        if as_of_now then
            perform setval('@extschema@.called', @extschema@.call_place(p_job));
        end if;
        perform @extschema@.notify_idle(p_job, 1);
    end if;
end
$$;

-- At the end of a transaction that put units in, once for each statement: whether somebody idle is called is decided,
-- unless it has been already in these 10 ms, for whoever puts units into the job. That is good enough: a worker that
-- was called then, or about to claim again, looks once more 20 ms after it has come (runtime/idle.py). It runs with the
-- rights of the pool's owner: who puts units in need not see workers.
create or replace function @extschema@.call_somebody() returns trigger language plpgsql
security definer set search_path = pg_catalog, pg_temp as $$
begin
    if pg_sequence_last_value('@extschema@.decided') = @extschema@.call_place(new.job_id) then
        return null;
    end if;
    perform @extschema@.decide_call(new.job_id);
    return null;
end
$$;
