-- What a session remembers for a while, so that it need not walk through the same dead entries of an index in each
-- call, which a snapshot that is open elsewhere keeps: where the first of them that is alive was. It is a hint: who
-- remembers nothing, or what another session left behind a pooler, begins at the start.

-- What is remembered of a job; null: nothing, or for too long.
create or replace function @extschema@.recall(p_what text, p_job int) returns text language plpgsql stable as $$
declare
    given constant text[] := string_to_array(current_setting('striped.' || p_what, true), '|');
begin
    if array_to_string(given[5:], '|') = '@extschema@' and given[1] = p_job::text
        and given[2]::timestamptz > @extschema@.clock() then
        return given[4];
    end if;
    return null;
end
$$;

-- Whether a place was remembered last, though its time be over: the next slow look is not the first of its kind. Two
-- are asked for, since one may have waited for a processor: '0' and '-infinity' stand for the first.
create or replace function @extschema@.were_slow(p_what text, p_job int) returns boolean language plpgsql stable as $$
declare
    given constant text[] := string_to_array(current_setting('striped.' || p_what, true), '|');
begin
    return array_to_string(given[5:], '|') = '@extschema@' and given[1] = p_job::text
        and given[4] not in ('0', '-infinity');
end
$$;

-- Forgets a place whose time is over: a look from the start was quick.
create or replace function @extschema@.forget(p_what text) returns void language plpgsql as $$
begin
    if current_setting('striped.' || p_what, true) <> '' then
        perform set_config('striped.' || p_what, '', false);
    end if;
end
$$;

-- Whether it is time to look from the start, where nothing was found from the place on that is remembered.
create or replace function @extschema@.may_look(p_what text, p_job int) returns boolean language sql volatile as $$
    select case when @extschema@.recall(p_what, p_job) is null then true
        else split_part(current_setting('striped.' || p_what, true), '|', 3)::timestamptz <= @extschema@.clock() end
$$;

-- Remembers a place, and if this was a look from the start how long that took: such looks are to be a small part of the
-- time, whatever is found. The first place is remembered for a second or longer; then the session looks from the start
-- in any case.
create or replace function @extschema@.remember(p_what text, p_job int, p_place text, p_took interval default null)
    returns void language plpgsql as $$
declare
    given constant text[] := string_to_array(current_setting('striped.' || p_what, true), '|');
    until timestamptz := @extschema@.clock() + least(greatest(interval '1 second', 40 * p_took), interval '30 seconds');
    again timestamptz := @extschema@.clock() + 20 * p_took;
begin
    if @extschema@.recall(p_what, p_job) is not null then
        until := given[2]::timestamptz;
        again := coalesce(again, given[3]::timestamptz);
    end if;
    perform set_config('striped.' || p_what,
        concat_ws('|', p_job, until, coalesce(again, '-infinity'), p_place, '@extschema@'), false);
end
$$;
