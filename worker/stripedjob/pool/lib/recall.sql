-- What a session remembers for a while, so that it need not walk through the same dead entries of an index in each
-- call: where the first of them that is alive was. It is a hint: who remembers nothing, or what another session left
-- behind a pooler, begins at the start.

-- What is remembered of a job; null: nothing, or for too long.
create or replace function @extschema@.recall(p_what text, p_job int) returns text language plpgsql stable as $$
declare
    given constant text[] := string_to_array(current_setting('striped.' || p_what, true), '|');
begin
    if array_to_string(given[4:], '|') = '@extschema@' and given[1] = p_job::text
        and given[2]::timestamptz > @extschema@.clock() then
        return given[3];
    end if;
    return null;
end
$$;

-- Remembers a place. The first one is remembered for a second, or longer where a look from the start took longer, so
-- that such looks are a twentieth of the time at most; then the session looks from the start again.
create or replace function @extschema@.remember(p_what text, p_job int, p_place text, p_took interval) returns void
    language plpgsql as $$
declare
    given constant text[] := string_to_array(current_setting('striped.' || p_what, true), '|');
    until timestamptz := @extschema@.clock() + least(greatest(interval '1 second', 40 * p_took), interval '30 seconds');
begin
    if @extschema@.recall(p_what, p_job) is not null then
        until := given[2]::timestamptz;
    end if;
    perform set_config('striped.' || p_what, concat_ws('|', p_job, until, p_place, '@extschema@'), false);
end
$$;
