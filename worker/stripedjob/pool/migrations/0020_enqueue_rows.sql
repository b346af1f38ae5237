-- Many units come in as arrays, in enqueue_rows(): without a temporary table, which takes a right of its own and rows of the catalog.
drop function if exists @extschema@.stage();
drop function if exists @extschema@.enqueue_staged(text, text);
