-- What people do to a pool that is at work: cancel, pause and resume.

-- Who cancelled the unit and why, where its resource was leased then: its worker is to end it, and it is not handed out
-- any more. Null again when it is dead. The index is empty but for a moment after somebody has cancelled what runs.
alter table @extschema@.unit add column cancelled text;
create index unit_cancelled on @extschema@.unit (job_id, resource, id) where cancelled is not null;

-- Whether a person has paused the resource: it is leased still, or waits for ever, also where it has nothing to do. So
-- what claims and assigns looks for ready resources, and pays nothing for it.
alter table @extschema@.stripe add column paused boolean not null default false,
    add constraint paused_is_not_ready check (not paused or state = 'leased' or next_at = 'infinity');
create index stripe_waits on @extschema@.stripe (job_id, resource) where state = 'waiting';

-- Who paused the job, when and why. Its limit is 0 meanwhile; `limit_unpaused` is what it is otherwise.
alter table @extschema@.job add column paused_at timestamptz, add column paused_by text, add column paused_why text,
    add column limit_unpaused int check (limit_unpaused >= 0),
    add constraint paused_is_whole check (num_nulls(paused_at, paused_by, paused_why, limit_unpaused) in (0, 4)),
    add constraint paused_has_no_limit check (paused_at is null or schedule_limit = 0);

-- Who paused a resource, when and why; that it is paused stands in its stripe.
create table @extschema@.pause (
    job_id int not null references @extschema@.job on delete cascade,
    resource text not null,
    at timestamptz not null,
    who text not null,
    why text not null,
    primary key (job_id, resource)
);
