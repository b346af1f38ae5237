-- Where a unit was put in by something that is traced: the W3C Trace Context of that, which its spans belong to.
alter table @extschema@.unit add column traceparent text;

-- Superseded by those that take it, too, with a default: who calls them without goes on.
drop function if exists @extschema@.enqueue(text, text, json, int, timestamptz, text, text);
drop function if exists @extschema@.enqueue_rows(text, text, text[], text[], int[], timestamptz[], text[]);
drop function if exists @extschema@.put_rows(@extschema@.job, text[], text[], int[], timestamptz[], text[]);
