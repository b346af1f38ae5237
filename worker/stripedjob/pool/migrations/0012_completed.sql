-- Units that a handler's own transaction recorded as done are counted by the next settlement of their resource, whoever makes it.

-- Made anew by the routines: its arguments change here.
drop function if exists @extschema@.settle(int, bigint, bigint, text[], bigint[], int[], text[], float8[], bigint[], json, int, int, int, int);

alter table @extschema@.stripe add column completed int not null default 0;
