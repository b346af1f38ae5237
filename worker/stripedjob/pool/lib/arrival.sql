-- How units come in: inside the caller's own transaction.

-- Every inserted unit wakes its resource, whichever way it was inserted: COPY, INSERT or enqueue().
create or replace function @extschema@.wake_inserted() returns trigger language plpgsql as $$
begin
    insert into @extschema@.wake (job_id, resource, units, importance, delayed, calls)
    select i.job_id, i.woken, count(*) filter (where i.woken <> ''), max(i.importance),
        count(*) filter (where i.woken = ''),
        row_number() over (partition by i.job_id) = 1
    from (
        select job_id, importance, case when state = 'ready' then resource else '' end woken -- a resource has a name
        from inserted where state in ('ready', 'delayed')
    ) i group by i.job_id, i.woken;
    return null;
end
$$;

create or replace trigger wake after insert on @extschema@.unit
    referencing new table as inserted for each statement execute function @extschema@.wake_inserted();

-- How long a deduplication id is good for, as in SQS FIFO.
create or replace function @extschema@.dedup_window() returns interval
    language sql immutable as $$ select interval '5 minutes' $$;

-- What stands for a unit's content as its deduplication id: its resource and its payload, however the JSON is spaced or
-- its keys are ordered. JSON that is no jsonb (\u0000, half a surrogate pair, a number out of its range) is taken as it
-- is written.
create or replace function @extschema@.content_id(p_resource text, p_payload json) returns text
    language plpgsql stable as $$
declare
    content text;
begin
    begin
        content := p_payload::jsonb::text;
    exception when data_exception or program_limit_exceeded then
        content := p_payload::text;
    end;
    return 'sha256:' || encode(sha256(convert_to(p_resource, 'UTF8') || '\x00' || convert_to(content, 'UTF8')), 'hex');
end
$$;
