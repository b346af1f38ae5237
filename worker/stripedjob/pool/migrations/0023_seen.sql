-- When an idle worker asked last: who is called is one of those that gave a sign of life a moment ago.
alter table @extschema@.worker add column polled_at timestamptz;
