-- What time it is: the one clock of all that decides anything here. Postgres puts its body in where it is called, so
-- that it costs nothing; a test replaces it in a database of its own, and turns the time without touching a row.
create or replace function @extschema@.clock() returns timestamptz language sql volatile as $$
    select clock_timestamp()
$$;
