-- Worker ids that never come again, sessions, turns in place of advisory locks, counters in place of counting, payloads as text.

drop function if exists @extschema@.apply_job(text, text, bigint, int, int, float8, int, @extschema@.on_failure, int, int,
    boolean, int, int, int, text, boolean);
drop function if exists @extschema@.claim(bigint, int, int);
drop function if exists @extschema@.complete(int, text, bigint, bigint[]);
drop function if exists @extschema@.renew(bigint);

-- A worker's id is drawn at random by register(): it is an incarnation. After a restore, or on a stand-by that lacks the last commits, a
-- sequence would give out again what a worker that is still alive has. It is below 2^53, so that it survives as a number in JSON.
-- `session` counts the connections over which the worker came; what an earlier one still sends is refused.
-- `backend_name` is the application_name of the sessions in which its handlers' transactions run: they end with its leases.
alter table @extschema@.worker
    alter column id drop identity,
    add column session int not null default 0,
    add column backend_name text,
    add column delayed bigint not null default 0;
alter table @extschema@.job add column delayed bigint not null default 0;

-- Who does a job's periodic work: one row for each kind of it, locked by whoever is at it. `at`: when it was done last; `detail`: the
-- schedule that was served then, or the resource up to which a refit has come.
create table @extschema@.turn (
    job_id int not null references @extschema@.job on delete cascade,
    kind text not null check (kind in ('upkeep', 'clean', 'schedule', 'refit')),
    at timestamptz not null default '-infinity',
    detail text,
    primary key (job_id, kind)
) with (fillfactor = 50);
insert into @extschema@.turn (job_id, kind, at, detail)
select id, kind, case kind when 'clean' then cleaned_at when 'schedule' then coalesce(scheduled_at, '-infinity') when 'refit' then 'infinity'
    else '-infinity' end, case kind when 'schedule' then schedule end
from @extschema@.job cross join unnest('{upkeep,clean,schedule,refit}'::text[]) kind;
alter table @extschema@.job drop column cleaned_at, drop column schedule, drop column scheduled_at;

-- How many units of a job came to be ready, delayed, held or dead, and left it again, but for what its workers count. The numbers of a job
-- are differences of these, so that to read them costs the same for ten units and for ten million.
create table @extschema@.flow (
    job_id int primary key references @extschema@.job on delete cascade,
    ready_in bigint not null default 0,
    delayed_in bigint not null default 0,
    delayed_out bigint not null default 0,
    held_out bigint not null default 0,
    dead_out bigint not null default 0
) with (fillfactor = 50);
insert into @extschema@.flow (job_id, ready_in, delayed_in, held_out, dead_out)
select j.id,
    count(u.id) filter (where u.state = 'ready') + j.done + j.held + j.dead, count(u.id) filter (where u.state = 'delayed'),
    j.held - count(u.id) filter (where u.state = 'held'), j.dead - count(u.id) filter (where u.state = 'dead')
from @extschema@.job j left join @extschema@.unit u on u.job_id = j.id group by j.id;
insert into @extschema@.wake (job_id, resource, units, importance) -- folded as new ones, which the numbers above have already
select job_id, resource, 0, max(importance) from @extschema@.wake group by job_id, resource;
delete from @extschema@.wake where units > 0;
-- A wake of delayed units names no resource: nothing of it is to be done yet, and it is only counted.
alter table @extschema@.wake add column delayed int not null default 0;

-- Text, so that its length is known without reading it all. `trace`: where the last try failed, in the handler's code.
alter table @extschema@.unit
    alter column payload drop default,
    alter column payload type text using payload::text,
    alter column payload set default 'null',
    add column trace text;

-- Whether a delayed unit holds back those after it follows from its job's onFailure, when it is claimed.
drop index @extschema@.unit_barrier;
alter table @extschema@.unit drop column blocking;
create index unit_barrier on @extschema@.unit (job_id, resource, id) where state = 'delayed';

-- Each of these has its state as a constant, and its bound.
drop index @extschema@.unit_finished, @extschema@.unit_set_aside, @extschema@.dedup_expires;
create index unit_set_aside on @extschema@.unit (job_id, state, resource, id) where state in ('held', 'dead');
create index unit_finished on @extschema@.unit (job_id, state, finished_at) where finished_at is not null;
create index dedup_expires on @extschema@.dedup (job_id, expires_at);
create index area_refilled on @extschema@.area (job_id, refilled_at);

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
    payloads text[]
);
