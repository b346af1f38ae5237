-- The circuit breaker of a job: where its last tries all failed alike, nothing of it is claimed for a while.

-- After how many such tries it opens (0: never), and how many seconds it is open for, at first and at most.
alter table @extschema@.job add column breaker_failures int not null default 0 check (breaker_failures >= 0),
    add column backoff_seconds double precision not null default 5 check (backoff_seconds >= 0),
    add column backoff_seconds_max double precision not null default 600 check (backoff_seconds_max >= 0);

-- How many tries have failed alike, without one that was done between, and what kind of failure it was. Where it is not
-- closed: since when, how often it has opened in a row, until when nothing is claimed, and the lease that probes then.
alter table @extschema@.job add column alike int not null default 0 check (alike >= 0), add column alike_kind text,
    add column opened_at timestamptz, add column openings int not null default 0 check (openings >= 0),
    add column open_until timestamptz, add column probe_resource text, add column probe_fence bigint,
    add constraint alike_has_kind check ((alike > 0) = (alike_kind is not null)),
    add constraint open_is_whole check (num_nulls(opened_at, open_until, nullif(openings, 0)) in (0, 3)),
    add constraint open_has_failures check (open_until is null or alike > 0),
    add constraint probe_is_whole check (num_nulls(probe_resource, probe_fence) in (0, 2)),
    add constraint closed_has_no_probe check (open_until is not null or probe_fence is null);

-- Superseded by one that takes the breaker, too, with defaults: who calls it without goes on.
drop function if exists @extschema@.apply_job(text, text, bigint, int, int, float8, int, @extschema@.on_failure, int,
    int, boolean, int, int, int, text, boolean);
