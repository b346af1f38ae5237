-- The routines make these again: what they return changes here.
drop function if exists @extschema@.pick_ready(@extschema@.worker, int);
drop function if exists @extschema@.pick_assigned(@extschema@.worker, int);
drop function if exists @extschema@.unassign(bigint, text[]);
-- Claims say how much is not worth sharing.
drop function if exists @extschema@.claim(bigint, int, int, int, bigint);
