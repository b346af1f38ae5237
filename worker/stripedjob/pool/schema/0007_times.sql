-- How long units wait and run.

-- How many units of a job waited and ran how long, as its workers have said in each minute, of which the last hour is
-- kept; and, where `minute` is -infinity, since the job was made. The buckets are those of stripedjob/times.py.
create table @extschema@.times (
    job_id int not null references @extschema@.job on delete cascade,
    minute timestamptz not null,
    waits bigint[] not null,
    wait_seconds double precision not null,
    runs bigint[] not null,
    run_seconds double precision not null,
    primary key (job_id, minute)
) with (fillfactor = 50);
