-- Idle workers are called when units are committed: by a trigger that runs at the end of the transaction, for one row of each statement.
alter table @extschema@.wake add column calls boolean not null default false;
alter table @extschema@.worker add column settled_at timestamptz; -- when it recorded something last
-- The routines replace its body; it is made here, since a constraint trigger cannot be replaced, and to drop it would lock the table at each upgrade.
create or replace function @extschema@.call_somebody() returns trigger language plpgsql as 'begin return null; end';
create constraint trigger call after insert on @extschema@.wake deferrable initially deferred
    for each row when (new.calls) execute function @extschema@.call_somebody();
-- Rows come and go quickly here: a fifth of a large table, which is Postgres' default, is much to walk through.
alter table @extschema@.unit set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);
alter table @extschema@.stripe set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);
alter table @extschema@.wake set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);
