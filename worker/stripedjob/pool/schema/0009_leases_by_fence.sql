-- A worker's leases by their fences, so that a look begins behind those that are known to have ended: release_slot().
create index stripe_held on @extschema@.stripe (worker_id, fence) where state = 'leased';
drop index @extschema@.stripe_leased;

-- Superseded by one that takes the time of a look, too.
drop function if exists @extschema@.remember(text, int, text);
