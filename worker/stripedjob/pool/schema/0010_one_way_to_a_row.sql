-- Indexes of which only one can serve each look, so that the planner has no choice to make by statistics, which may be
-- those of a moment when a table was empty. One that is partial serves who repeats its condition: those by time, who
-- says that there is a time; and the one of ready resources by area, who writes the state as it is written here.
drop index @extschema@.unit_due;
create index unit_due on @extschema@.unit (job_id, due_at) where state = 'delayed' and due_at is not null;
drop index @extschema@.area_refilled;
create index area_refilled on @extschema@.area (job_id, refilled_at) where refilled_at > '-infinity';
drop index @extschema@.dedup_expires;
create index dedup_expires on @extschema@.dedup (job_id, expires_at) where expires_at > '-infinity';
drop index @extschema@.stripe_area;
create index stripe_area on @extschema@.stripe (job_id, area, rank)
    where state is not distinct from 'ready' and area is not null;

-- One index in place of two, which each enqueuer writes to.
alter table @extschema@.wake drop constraint wake_pkey, add primary key (job_id, id);
drop index @extschema@.wake_job;

-- Locks are taken in the order of the bytes, and that is the order of the index.
alter table @extschema@.lock alter resource type text collate "C";

-- Superseded by those that are told where the rows are.
drop function if exists @extschema@.fold_these(int, bigint[], text[], tid[]);
drop function if exists @extschema@.end_leases(@extschema@.job, tid[], text[], int[], text[], float8[]);
drop function if exists @extschema@.finish_and_note(@extschema@.job, bigint, text[], bigint[], text[], bigint[]);
drop function if exists @extschema@.record_done(@extschema@.job, bigint, text[], bigint[], text[], bigint[]);
