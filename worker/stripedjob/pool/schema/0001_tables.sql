-- The tables of the pool; private: whoever is not the owner goes through the functions of api/. @extschema@ stands for
-- the quoted schema name, as in PostgreSQL's own extension scripts. A file here is never changed once it was released;
-- docs/adr/0016-published-protocol.md says what the next may do.

-- Where a unit stands. There is no state for "being worked on": that is the lease of its resource, in `stripe`.
create type @extschema@.unit_state as enum ('ready', 'delayed', 'held', 'dead', 'done');

-- Where a resource stands: claimable, assigned to a worker by the delegator, leased, or waiting until `next_at`. A
-- resource with nothing to do has no row.
create type @extschema@.stripe_state as enum ('ready', 'assigned', 'leased', 'waiting');

create type @extschema@.on_failure as enum ('Block', 'Skip', 'Dead');

-- What a claim answers: see claim().
create type @extschema@.claimed as (
    resources text[],
    fences bigint[],
    suspect boolean,
    counts int[],
    more boolean[],
    ids bigint[],
    attempts int[],
    crashes int[],
    payloads text[],
    oldest bigint[],
    newest bigint[],
    traceparents text[]
);

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
    -- units without a deduplication id get one of their resource and payload
    deduplicate_content boolean not null default false,
    delegated boolean not null default false, -- resources reach workers through assignments alone
    outstanding_max int check (outstanding_max > 0), -- this and the next three: the throttle; null: there is none
    starts_max int check (starts_max > 0),
    period_seconds int check (period_seconds > 0),
    area_label text,
    created_at timestamptz not null default now(),
    done bigint not null default 0,
    retried bigint not null default 0,
    delayed bigint not null default 0,
    held bigint not null default 0,
    dead bigint not null default 0,
    crashed bigint not null default 0,
    stale bigint not null default 0,
    claimed bigint not null default 0,
    lock_tries bigint not null default 0,
    lock_refusals bigint not null default 0,
    unique (namespace, job_type),
    constraint throttle_is_whole check (num_nulls(outstanding_max, starts_max, period_seconds) in (0, 3)),
    constraint throttle_is_delegated check (delegated or outstanding_max is null)
);

-- How many units of a job came to be ready, delayed, held or dead, and left it again, but for what its workers count.
-- The numbers of a job are differences of these, so that to read them costs the same for ten units and for ten million.
create table @extschema@.flow (
    job_id int primary key references @extschema@.job on delete cascade,
    ready_in bigint not null default 0,
    delayed_in bigint not null default 0,
    delayed_out bigint not null default 0,
    held_out bigint not null default 0,
    dead_out bigint not null default 0
) with (fillfactor = 50);

-- Who does a job's periodic work: one row for each kind of it, locked by whoever is at it. `at`: when it was done last;
-- `detail`: the schedule that was served then, or the resource up to which a refit has come.
create table @extschema@.turn (
    job_id int not null references @extschema@.job on delete cascade,
    kind text not null check (kind in ('upkeep', 'clean', 'schedule', 'refit')),
    at timestamptz not null default '-infinity',
    detail text,
    primary key (job_id, kind)
) with (fillfactor = 50);

-- One row for each worker that is alive. `working` is the slot: at most schedule_limit rows of a job have it. The lease
-- of every resource that a worker holds ends at its `expires_at`, so that a renewal writes one row. The id is drawn at
-- random by register(): it is an incarnation. After a restore, or on a stand-by that lacks the last commits, a sequence
-- would give out again what a worker that is still alive has. It is below 2^53, so that it survives as a number in
-- JSON.
create table @extschema@.worker (
    id bigint primary key,
    job_id int not null references @extschema@.job on delete cascade,
    name text not null,
    -- counts the connections over which it came; what an earlier one still sends is refused
    session int not null default 0,
    backend_name text, -- the application_name of the sessions of its handlers' transactions, which end with its leases
    working boolean not null default false,
    wants int not null default 0, -- resources that it would lease at its next claim, if they were assigned to it
    lacks int not null default 0, -- of these, how many it could lease now
    batch bigint not null default 0, -- the last that was settled
    started_at timestamptz not null default now(),
    expires_at timestamptz not null,
    settled_at timestamptz, -- when it recorded something last
    polled_at timestamptz, -- when it asked or claimed last, being idle
    done bigint not null default 0,
    retried bigint not null default 0,
    delayed bigint not null default 0,
    held bigint not null default 0,
    dead bigint not null default 0,
    crashed bigint not null default 0,
    claimed bigint not null default 0,
    lock_tries bigint not null default 0,
    lock_refusals bigint not null default 0,
    constraint lacks_what_it_wants check (lacks between 0 and wants)
) with (fillfactor = 50);
create index worker_job on @extschema@.worker (job_id);

-- One row for each unit of work. Order in a resource is by id: a unit enqueued after another's commit has a higher one.
-- Rows come and go quickly in this table, `stripe` and `wake`: a fifth of a large table, which is Postgres' default for
-- a vacuum, is much to walk through.
create table @extschema@.unit (
    id bigint primary key generated always as identity,
    job_id int not null, -- no foreign key, here and below: its check would cost a third of the insert
    resource text not null constraint resource_length check (octet_length(resource) between 1 and 512),
    state @extschema@.unit_state not null default 'ready',
    attempts smallint not null default 0,
    crashes smallint not null default 0,
    importance smallint not null default 0 constraint importance_within_bounds check (importance between -100 and 100),
    enqueued_at timestamptz not null default now(),
    due_at timestamptz,
    finished_at timestamptz,
    payload text not null default 'null', -- JSON as text, so that its length is known without reading it all
    reason text,
    trace text, -- where the last try failed, in the handler's code
    constraint delayed_has_due_at check (state <> 'delayed' or due_at is not null),
    constraint held_has_reason check (state <> 'held' or reason is not null),
    constraint dead_has_reason check (state <> 'dead' or reason is not null),
    constraint finished_has_time check ((state in ('dead', 'done')) = (finished_at is not null))
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);
create index unit_ready on @extschema@.unit (job_id, resource, id) where state = 'ready';
create index unit_due on @extschema@.unit (job_id, due_at) where state = 'delayed';
create index unit_barrier on @extschema@.unit (job_id, resource, id) where state = 'delayed';
create index unit_set_aside on @extschema@.unit (job_id, state, resource, id) where state in ('held', 'dead');
create index unit_finished on @extschema@.unit (job_id, state, finished_at) where finished_at is not null;

-- One row for each resource that has something to do: the stripe. Invariant: it names one owner at most, whom it is
-- assigned or leased to. `rank` orders the claim: the time since when it is ready, less one minute for each point of
-- importance, so that importance goes first and yet nothing starves. `woken`: units came while it was leased.
-- `crashes`: workers died with it; it is then leased alone, one unit at a time. `ready` counts units for display; no
-- decision rests on it. `completed`: of a lease, units that a handler's own transaction recorded as done; the next
-- settlement of the resource counts them, whoever makes it. `area`: what a throttle counts by; null where there is
-- none.
create table @extschema@.stripe (
    job_id int not null,
    resource text not null,
    state @extschema@.stripe_state not null default 'ready',
    woken boolean not null default false,
    crashes smallint not null default 0,
    importance smallint not null default 0,
    ready int not null default 0,
    completed int not null default 0,
    rank timestamptz not null,
    next_at timestamptz,
    assigned_at timestamptz,
    leased_at timestamptz,
    worker_id bigint,
    fence bigint,
    area text,
    primary key (job_id, resource),
    constraint owned_has_owner check ((state in ('assigned', 'leased')) = (worker_id is not null)),
    constraint assigned_has_time check (state <> 'assigned' or assigned_at is not null),
    constraint leased_has_fence check (state <> 'leased' or fence is not null),
    constraint waiting_has_time check ((state = 'waiting') = (next_at is not null))
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);
create index stripe_ready on @extschema@.stripe (job_id, rank) where state = 'ready';
create index stripe_waiting on @extschema@.stripe (job_id, next_at) where state = 'waiting';
create index stripe_leased on @extschema@.stripe (worker_id) where state = 'leased';
create index stripe_assigned on @extschema@.stripe (worker_id, rank) where state = 'assigned';
create index stripe_area on @extschema@.stripe (job_id, area, rank) where state = 'ready' and area is not null;
create index stripe_outstanding on @extschema@.stripe (job_id, area)
    where state in ('assigned', 'leased') and area is not null;

-- Enqueuers append here and touch no stripe, so that they never wait for workers nor make them wait. Upkeep folds the
-- rows in. A row of delayed units names no resource: nothing of it is to be done yet, and it is only counted. `calls`:
-- at the commit, somebody idle is called for it; one row of each statement does so.
create table @extschema@.wake (
    id bigint primary key generated always as identity,
    job_id int not null,
    resource text not null,
    units int not null,
    delayed int not null default 0,
    importance smallint not null,
    calls boolean not null default false
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);
create index wake_job on @extschema@.wake (job_id, id);

-- For which job it was decided last whether somebody is called, and when; and for which somebody was: see
-- lib/notify.sql. These are sequences, since what is set is seen at once, by all, and nobody waits for it or fails by
-- it, whatever becomes of the transaction. A crash forgets it.
create unlogged sequence @extschema@.decided as bigint;
create unlogged sequence @extschema@.called as bigint;

-- Its body is in lib/notify.sql; it is made here, since a constraint trigger cannot be replaced, and to drop it would
-- lock the table at each upgrade.
create function @extschema@.call_somebody() returns trigger language plpgsql as 'begin return null; end';
create constraint trigger call after insert on @extschema@.wake deferrable initially deferred
    for each row when (new.calls) execute function @extschema@.call_somebody();

-- Deduplication ids that are still good.
create table @extschema@.dedup (
    job_id int not null,
    dedup_id text not null constraint dedup_id_length check (octet_length(dedup_id) between 1 and 512),
    unit_id bigint not null,
    expires_at timestamptz not null,
    primary key (job_id, dedup_id)
);
create index dedup_expires on @extschema@.dedup (job_id, expires_at);

-- Who assigns, until when. `term` is a fence: it grows with every change of leader.
create table @extschema@.delegator (
    job_id int primary key references @extschema@.job on delete cascade,
    term bigint not null,
    name text not null,
    expires_at timestamptz not null
);

-- The token bucket of each area of a throttled job, as of `refilled_at`.
create table @extschema@.area (
    job_id int not null references @extschema@.job on delete cascade,
    area text not null,
    tokens double precision not null check (tokens >= 0),
    refilled_at timestamptz not null,
    primary key (job_id, area)
);
create index area_refilled on @extschema@.area (job_id, refilled_at);
