-- When a job's schedule was served last, and which one that was.
alter table @extschema@.job add column schedule text, add column scheduled_at timestamptz;
