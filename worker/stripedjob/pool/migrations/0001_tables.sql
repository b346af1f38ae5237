-- The tables of the pool. @extschema@ stands for the quoted schema name, as in PostgreSQL's own extension scripts.

-- Where a unit stands. There is no state for "being worked on": that is the lease of its resource, in `stripe`.
create type @extschema@.unit_state as enum ('ready', 'delayed', 'held', 'dead', 'done');

-- Where a resource stands: claimable, leased to a worker, or waiting until `next_at`. A resource with nothing to do has no row.
create type @extschema@.stripe_state as enum ('ready', 'leased', 'waiting');

create type @extschema@.on_failure as enum ('Block', 'Skip', 'Dead');

-- Fences come from one sequence, so that they grow for every resource even when its row has come and gone in between.
-- No cache: a cached block would hand out an older number after a newer one.
create sequence @extschema@.fence as bigint no cycle;

-- One row for each StripedJob: what the database judges by, and the totals of the workers that are gone.
create table @extschema@.job (
    id int primary key generated always as identity,
    namespace text not null,
    job_type text not null,
    generation bigint not null default 0,
    schedule_limit int not null default 1 check (schedule_limit >= 0), -- as in force: 0 when suspended
    importance smallint not null default 0,
    lease_seconds double precision not null default 30 check (lease_seconds > 0),
    crash_threshold smallint not null default 5 check (crash_threshold > 0),
    on_failure @extschema@.on_failure not null default 'Skip',
    completed_seconds int not null default 0 check (completed_seconds >= 0),
    dead_seconds int not null default 604800 check (dead_seconds >= 0),
    cleaned_at timestamptz not null default now(),
    created_at timestamptz not null default now(),
    done bigint not null default 0,
    retried bigint not null default 0,
    held bigint not null default 0,
    dead bigint not null default 0,
    crashed bigint not null default 0,
    stale bigint not null default 0,
    claimed bigint not null default 0,
    lock_tries bigint not null default 0,
    lock_refusals bigint not null default 0,
    unique (namespace, job_type)
);

-- One row for each worker that is alive. `working` is the slot: at most schedule_limit rows of a job have it.
-- The lease of every resource that a worker holds ends at its `expires_at`, so that a renewal writes one row.
create table @extschema@.worker (
    id bigint primary key generated always as identity,
    job_id int not null references @extschema@.job on delete cascade,
    name text not null,
    working boolean not null default false,
    batch bigint not null default 0, -- the last that was settled
    started_at timestamptz not null default now(),
    expires_at timestamptz not null,
    done bigint not null default 0,
    retried bigint not null default 0,
    held bigint not null default 0,
    dead bigint not null default 0,
    crashed bigint not null default 0,
    claimed bigint not null default 0,
    lock_tries bigint not null default 0,
    lock_refusals bigint not null default 0
) with (fillfactor = 50);
create index worker_job on @extschema@.worker (job_id);

-- One row for each unit of work. Order in a resource is by id: a unit enqueued after another's commit has a higher one.
create table @extschema@.unit (
    id bigint primary key generated always as identity,
    job_id int not null, -- no foreign key, here and below: its check would cost a third of the insert
    resource text not null constraint resource_length check (octet_length(resource) between 1 and 512),
    state @extschema@.unit_state not null default 'ready',
    attempts smallint not null default 0,
    crashes smallint not null default 0,
    importance smallint not null default 0,
    enqueued_at timestamptz not null default now(),
    due_at timestamptz,
    finished_at timestamptz,
    payload json not null default 'null',
    reason text,
    constraint delayed_has_due_at check (state <> 'delayed' or due_at is not null),
    constraint held_has_reason check (state <> 'held' or reason is not null),
    constraint dead_has_reason check (state <> 'dead' or reason is not null),
    constraint finished_has_time check ((state in ('dead', 'done')) = (finished_at is not null))
);
create index unit_ready on @extschema@.unit (job_id, resource, id) where state = 'ready';
create index unit_due on @extschema@.unit (job_id, due_at) where state = 'delayed';
create index unit_set_aside on @extschema@.unit (job_id, state, resource) where state in ('held', 'dead');
create index unit_finished on @extschema@.unit (job_id, finished_at) where finished_at is not null;

-- One row for each resource that has something to do: the stripe. `rank` orders the claim: the time since when it is ready,
-- less one minute for each point of importance, so that importance goes first and yet nothing starves.
-- `woken`: units came while it was leased. `crashes`: workers died with it; it is then leased alone, one unit at a time.
-- `ready` counts units for display; no decision rests on it.
create table @extschema@.stripe (
    job_id int not null,
    resource text not null,
    state @extschema@.stripe_state not null default 'ready',
    woken boolean not null default false,
    crashes smallint not null default 0,
    importance smallint not null default 0,
    ready int not null default 0,
    rank timestamptz not null,
    next_at timestamptz,
    leased_at timestamptz,
    worker_id bigint,
    fence bigint,
    primary key (job_id, resource),
    constraint leased_has_owner check ((state = 'leased') = (worker_id is not null)),
    constraint leased_has_fence check (state <> 'leased' or fence is not null),
    constraint waiting_has_time check ((state = 'waiting') = (next_at is not null))
) with (fillfactor = 70);
create index stripe_ready on @extschema@.stripe (job_id, rank) where state = 'ready';
create index stripe_waiting on @extschema@.stripe (job_id, next_at) where state = 'waiting';
create index stripe_leased on @extschema@.stripe (worker_id) where state = 'leased';

-- Enqueuers append here and touch no stripe, so that they never wait for workers nor make them wait. Upkeep folds the rows in.
create table @extschema@.wake (
    id bigint primary key generated always as identity,
    job_id int not null,
    resource text not null,
    units int not null,
    importance smallint not null
);
create index wake_job on @extschema@.wake (job_id, id);

-- Deduplication ids that are still good.
create table @extschema@.dedup (
    job_id int not null,
    dedup_id text not null constraint dedup_id_length check (octet_length(dedup_id) between 1 and 512),
    unit_id bigint not null,
    expires_at timestamptz not null,
    primary key (job_id, dedup_id)
);
create index dedup_expires on @extschema@.dedup (expires_at);
