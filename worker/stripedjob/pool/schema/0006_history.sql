-- What happened to units and resources, of the jobs that keep it (retention.historySeconds).

-- For how long a job's history is kept; 0: none is written. The index is empty where no job keeps any: whoever puts
-- units in asks it.
alter table @extschema@.job add column history_seconds int not null default 0 check (history_seconds >= 0);
create index job_history on @extschema@.job (id) where history_seconds > 0;

create type @extschema@.history_event as enum (
    'enqueued', 'leased', 'done', 'failed', 'crashed', -- of a unit: what its tries came to
    'lost', 'returned', -- of a lease: it ran out, or its worker went
    'cancelled', 'retried', 'released', 'hurried', 'purged', 'paused', 'resumed' -- what people do
);

-- One row for each thing that happened; `unit` is null where it happened to the resource as a whole, `resource` too
-- where it happened to the job. `id` rises for each unit, each resource and each job: what comes later is written under
-- a lock of what came before, or after its commit.
-- `who`: a worker's name, or a person; `state`: what the unit is since. `slot`: its place in the ring, see
-- history_ring.
create sequence @extschema@.history_id as bigint no cycle;
create table @extschema@.history (
    id bigint not null default nextval('@extschema@.history_id'),
    at timestamptz not null,
    unit bigint,
    fence bigint,
    job_id int not null,
    event @extschema@.history_event not null,
    state @extschema@.unit_state,
    slot smallint,
    attempt int,
    resource text,
    who text,
    reason text
) partition by list (slot);
alter sequence @extschema@.history_id owned by @extschema@.history.id;
create index history_resource on @extschema@.history (job_id, resource, id);
create index history_unit on @extschema@.history (unit, id) where unit is not null;
create index history_whole on @extschema@.history (job_id, resource, id) where unit is null;

-- The places of the ring: they are there from the start, so that no insert finds none and nothing ever attaches or
-- detaches one, which would wait for whoever writes. One is emptied by TRUNCATE, which locks it alone.
create table @extschema@.history_0 partition of @extschema@.history for values in (0, null);
create table @extschema@.history_1 partition of @extschema@.history for values in (1);
create table @extschema@.history_2 partition of @extschema@.history for values in (2);
create table @extschema@.history_3 partition of @extschema@.history for values in (3);
create table @extschema@.history_4 partition of @extschema@.history for values in (4);
create table @extschema@.history_5 partition of @extschema@.history for values in (5);
create table @extschema@.history_6 partition of @extschema@.history for values in (6);
create table @extschema@.history_7 partition of @extschema@.history for values in (7);
create table @extschema@.history_8 partition of @extschema@.history for values in (8);

-- Which place is written to, since when, and when each of the others was written to last; null: it is empty. One row.
create table @extschema@.history_ring (
    is_whole boolean primary key default true check (is_whole),
    slot smallint not null default 0 check (slot between 0 and 8),
    since timestamptz not null default '-infinity',
    ended timestamptz[] not null default array_fill(null::timestamptz, '{9}') check (cardinality(ended) = 9)
);
insert into @extschema@.history_ring default values;

-- What these take more, or did not take, since then: a function with other arguments would stand beside the old one.
drop function if exists @extschema@.apply_job(
    text, text, bigint, int, int, float8, int, @extschema@.on_failure, int, int, boolean, int, int, int, text, boolean);
drop function if exists @extschema@.revive(int, @extschema@.unit_state, text, bigint[], int);
drop function if exists @extschema@.purge(int, @extschema@.unit_state, text, bigint[], int);
drop function if exists @extschema@.retry_now(int, text, bigint[], text, bigint, int);
drop function if exists @extschema@.retry_resources_now(int, text, bigint[], text, int);
drop function if exists @extschema@.resume_resource(int, text);
drop function if exists @extschema@.resume_job(int);
drop function if exists @extschema@.end_waiting(@extschema@.job, bigint[], text[], text);
