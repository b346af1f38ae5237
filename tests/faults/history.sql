-- What the database under test writes down of itself, in the transactions that do it: what was rolled back is not there.
create schema history;
create table history.effect (unit bigint, resource text, fence bigint, n bigint generated always as identity); -- n: the order in a transaction
create table history.recorded (job_id int, unit bigint, at timestamptz default clock_timestamp());
create table history.scheduled (job_id int, unit bigint, resource text, at timestamptz default clock_timestamp());
create table history.change (
    job_id int, resource text, before text, after text, fence_before bigint, fence_after bigint, worker bigint, area text,
    began timestamptz default statement_timestamp(), at timestamptz default clock_timestamp()
);

-- A unit's row is removed, or kept as done.
create function history.note_recorded() returns trigger language plpgsql as $$
begin
    insert into history.recorded (job_id, unit) select job_id, id from gone;
    return null;
end
$$;
create trigger recorded after delete on striped.unit
    referencing old table as gone for each statement execute function history.note_recorded();

-- A unit that the clock puts in.
create function history.note_scheduled() returns trigger language plpgsql as $$
begin
    insert into history.scheduled (job_id, unit, resource) select job_id, id, resource from fresh where resource = 'scheduled';
    return null;
end
$$;
create trigger scheduled after insert on striped.unit
    referencing new table as fresh for each statement execute function history.note_scheduled();

-- A stripe is assigned or leased, or is so no more.
create function history.note_change() returns trigger language plpgsql as $$
begin
    if (old.state, old.fence, old.worker_id) is not distinct from (new.state, new.fence, new.worker_id)
        or not (coalesce(old.state in ('assigned', 'leased'), false) or coalesce(new.state in ('assigned', 'leased'), false)) then
        return null;
    end if;
    insert into history.change (job_id, resource, before, after, fence_before, fence_after, worker, area)
    values (coalesce(new.job_id, old.job_id), coalesce(new.resource, old.resource), coalesce(old.state::text, ''),
        coalesce(new.state::text, ''), coalesce(old.fence, 0), coalesce(new.fence, 0), coalesce(new.worker_id, 0),
        coalesce(new.area, old.area, ''));
    return null;
end
$$;
create trigger change after insert or update or delete on striped.stripe
    for each row execute function history.note_change();
