-- How rows are found. A plan may have been made while a table was empty, or by what ANALYZE found at such a moment:
-- then a look through a whole index costs no more, in the planner's eyes, than one by its key, and neither does a loop
-- over two lists. So no statement leaves it a choice that matters (docs/performance.md):
-- * one row is looked up by its whole key, in a subquery of its own with a limit. Where an order by id would tempt to
--   walk through the primary key, the resource is written as a range, and is part of the order;
-- * many rows are changed by where they are (ctid), which a statement before has found and locked; or by their ids as
--   an array: `= any(array[key])` in place of `= key` where another table has the key, since no merge can serve that;
-- * lists are not joined: they come as columns of one, or are grouped;
-- * where a lateral subquery locks, nothing may sort its rows out afterwards: what chooses them is materialized before,
--   if it is more than conditions on a list;
-- * a condition that no index is to serve is written with `is not distinct from`.

-- Those of p_resources that have a stripe. One look by the primary key for each, here, below and in settle(): a plan
-- for an array of many may go through all that the job has. And each looks backwards: of versions that a snapshot
-- keeps, the newest is most often the last in the index, and found first.
create or replace function @extschema@.with_stripe(p_job int, p_resources text[]) returns text[]
    language sql stable as $$
    select array(select r.resource from unnest(p_resources) r(resource) cross join lateral (
        select from @extschema@.stripe where job_id = p_job and resource >= r.resource and resource <= r.resource
        order by resource desc limit 1) s)
$$;

-- Where the stripes of p_resources are, which the caller has locked.
create or replace function @extschema@.places(p_job int, p_resources text[]) returns tid[] language sql stable as $$
    select array(select s.place from unnest(p_resources) r(resource) cross join lateral (
        select ctid as place from @extschema@.stripe
        where job_id = p_job and resource >= r.resource and resource <= r.resource
        order by resource desc limit 1) s)
$$;

-- Locks those stripes of p_resources that nobody has locked, and returns where they are, for the next statement.
create or replace function @extschema@.lock_free(p_job int, p_resources text[]) returns table (resource text, place tid)
    language sql as $$
    select r.resource, s.ctid from unnest(p_resources) r(resource) cross join lateral (
        select ctid from @extschema@.stripe where job_id = p_job and resource >= r.resource and resource <= r.resource
        order by resource desc limit 1 for update skip locked) s
$$;

-- The first unit of a resource that is ready; null: there is none.
create or replace function @extschema@.first_unit(p_job int, p_resource text) returns bigint language sql stable as $$
    select id from @extschema@.unit
    where job_id = p_job and resource >= p_resource and resource <= p_resource and state = 'ready'
    order by resource, id limit 1
$$;

-- Whether a resource has a unit that is held: it waits for a person where order is strict.
create or replace function @extschema@.has_held(p_job int, p_resource text) returns boolean language sql stable as $$
    select (select id from @extschema@.unit where job_id = p_job and resource = p_resource and state = 'held' limit 1)
        is not null
$$;
