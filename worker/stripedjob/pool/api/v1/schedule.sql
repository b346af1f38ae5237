-- What the clock does. fire() is what the operator and the supervisor of one machine call; the others are its steps.

-- Enqueues what the clock asks for, once a period however many ask: the rows (resource, payload) of the query, or one
-- unit named like the job. Returns how many units, or null where this period has been served or somebody is at it. The
-- first call with a new schedule only begins it: no catching up. The query runs with the rights and the search_path of
-- who calls, never with those of the pool's owner, bounded by its statement_timeout. Meanwhile the schedule's turn is
-- locked, and nothing else: what workers do goes on however long it takes. Its text is taken as it is.
create or replace function @extschema@.fire(p_job int, p_schedule text, p_due timestamptz, p_query text) returns bigint
    language plpgsql security invoker as $$
declare
    found_rows refcursor;
    next_resource text;
    next_payload text;
    resources text[] := '{}';
    payloads text[] := '{}';
    n bigint := 0;
begin
    if not @extschema@.schedule_begin(p_job, p_schedule, p_due) then
        return null;
    elsif p_query is null then
        n := @extschema@.schedule_put(p_job, p_due, 0, null, null);
    else
        set local search_path to default;
        set local enable_seqscan to default;
        open found_rows for execute p_query;
        loop
            fetch found_rows into next_resource, next_payload;
            if found then
                resources := resources || next_resource;
                payloads := payloads || next_payload;
            end if;
            if not found or cardinality(resources) = 1000 then
                n := n + @extschema@.schedule_put(p_job, p_due, n, resources, payloads);
                exit when cardinality(resources) < 1000;
                resources := '{}';
                payloads := '{}';
            end if;
        end loop;
        close found_rows;
    end if;
    perform @extschema@.schedule_end(p_job, p_due);
    return n;
end
$$;

-- Whether the period that is due at this time is to be served now. Then the schedule's turn is the caller's, until the
-- end of its transaction.
create or replace function @extschema@.schedule_begin(p_job int, p_schedule text, p_due timestamptz) returns boolean
    language plpgsql as $$
declare
    served @extschema@.turn;
begin
    perform @extschema@.check_job(p_job, 'schedule');
    select * into served from @extschema@.turn where job_id = p_job and kind = 'schedule' for no key update skip locked;
    if served.job_id is null then
        return false;
    elsif served.detail is distinct from p_schedule then
        update @extschema@.turn set detail = p_schedule, at = @extschema@.clock()
            where job_id = p_job and kind = 'schedule';
        return false;
    end if;
    return served.at < p_due;
end
$$;

-- Enqueues rows of the period, the first of which is its (p_before + 1)th; null: one unit named like the job. Returns
-- how many.
create or replace function @extschema@.schedule_put(
    p_job int, p_due timestamptz, p_before bigint, p_resources text[], p_payloads text[]
) returns bigint language plpgsql as $$
declare
    j @extschema@.job;
begin
    perform @extschema@.check_job(p_job, 'schedule');
    select * into j from @extschema@.job where id = p_job;
    return @extschema@.enqueue_scheduled(j, p_due, p_before, coalesce(p_resources, array[j.job_type]), p_payloads);
end
$$;

-- The period has been served.
create or replace function @extschema@.schedule_end(p_job int, p_due timestamptz) returns void language plpgsql as $$
begin
    perform @extschema@.check_job(p_job, 'schedule');
    update @extschema@.turn set at = p_due where job_id = p_job and kind = 'schedule' and at < p_due;
end
$$;
