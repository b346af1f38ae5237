-- Strict order also where units are delayed, deduplication by content, and a bound on importance.

-- Made anew by the routines: its arguments change here.
drop function if exists @extschema@.apply_job(text, text, bigint, int, int, float8, int, @extschema@.on_failure, int, int,
    boolean, int, int, int, text);

-- Whether a delayed unit holds back those after it in its resource: in jobs whose onFailure is Block. Null: no, which costs no byte.
-- Units of other jobs are not in the index.
alter table @extschema@.unit add column blocking boolean;
create index unit_barrier on @extschema@.unit (job_id, resource, id) where state = 'delayed' and blocking;

-- Whether units without a deduplication id get one made of their resource and payload.
alter table @extschema@.job add column deduplicate_content boolean not null default false;

-- Importance has bounds, since the bound on starvation follows from them.
update @extschema@.unit set importance = greatest(-100, least(100, importance)) where importance not between -100 and 100;
update @extschema@.stripe set importance = greatest(-100, least(100, importance)) where importance not between -100 and 100;
alter table @extschema@.unit add constraint importance_within_bounds check (importance between -100 and 100);
