-- A resource can be assigned to a worker before that worker leases it: what a delegator does, for the strategies Delegator and Throttled.

-- Made again by the routines: their arguments change here.
drop function if exists @extschema@.fair_share(@extschema@.worker, int);
drop function if exists @extschema@.apply_job(text, text, bigint, int, int, float8, int, @extschema@.on_failure, int, int);

-- A new value of an enum could not be used in the transaction that adds it; so there is a new type.
alter type @extschema@.stripe_state rename to stripe_state_before;
create type @extschema@.stripe_state as enum ('ready', 'assigned', 'leased', 'waiting');
drop index @extschema@.stripe_ready, @extschema@.stripe_waiting, @extschema@.stripe_leased;
alter table @extschema@.stripe
    drop constraint leased_has_owner,
    drop constraint leased_has_fence,
    drop constraint waiting_has_time,
    alter column state drop default,
    alter column state type @extschema@.stripe_state using state::text::@extschema@.stripe_state,
    alter column state set default 'ready',
    add column area text, -- what a throttle counts by; null where there is none
    add column assigned_at timestamptz;
drop type @extschema@.stripe_state_before;

-- Invariant: a resource is assigned or leased to one worker at most. Its one row, by the primary key, names one owner.
alter table @extschema@.stripe
    add constraint owned_has_owner check ((state in ('assigned', 'leased')) = (worker_id is not null)),
    add constraint assigned_has_time check (state <> 'assigned' or assigned_at is not null),
    add constraint leased_has_fence check (state <> 'leased' or fence is not null),
    add constraint waiting_has_time check ((state = 'waiting') = (next_at is not null));
create index stripe_ready on @extschema@.stripe (job_id, rank) where state = 'ready';
create index stripe_waiting on @extschema@.stripe (job_id, next_at) where state = 'waiting';
create index stripe_leased on @extschema@.stripe (worker_id) where state = 'leased';
create index stripe_assigned on @extschema@.stripe (worker_id, rank) where state = 'assigned';
create index stripe_area on @extschema@.stripe (job_id, area, rank) where state = 'ready' and area is not null;
create index stripe_outstanding on @extschema@.stripe (job_id, area) where state in ('assigned', 'leased') and area is not null;

alter table @extschema@.job
    add column delegated boolean not null default false, -- resources reach workers through assignments alone
    add column outstanding_max int check (outstanding_max > 0), -- this and the next three: the throttle; null: there is none
    add column starts_max int check (starts_max > 0),
    add column period_seconds int check (period_seconds > 0),
    add column area_label text,
    add constraint throttle_is_whole check (num_nulls(outstanding_max, starts_max, period_seconds) in (0, 3)),
    add constraint throttle_is_delegated check (delegated or outstanding_max is null);

-- How many resources a worker would lease at its next claim, if they were assigned to it, and how many of these it could lease now.
alter table @extschema@.worker
    add column wants int not null default 0,
    add column lacks int not null default 0,
    add constraint lacks_what_it_wants check (lacks between 0 and wants);

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
