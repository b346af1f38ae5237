-- Idle workers are called when units are committed: by a trigger that runs at the end of the transaction, for one row of each statement.
alter table @extschema@.wake add column calls boolean not null default false;
alter table @extschema@.worker add column settled_at timestamptz; -- when it recorded something last
-- Made anew by the routines; here, since a constraint trigger cannot be replaced, and to drop it would lock the table at each upgrade.
create or replace function @extschema@.call_somebody() returns trigger language plpgsql as 'begin return null; end';
create constraint trigger call after insert on @extschema@.wake deferrable initially deferred
    for each row when (new.calls) execute function @extschema@.call_somebody();
