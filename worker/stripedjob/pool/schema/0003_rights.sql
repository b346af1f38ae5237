-- Which roles may use which part of the API for some jobs alone: see lib/rights.sql. A role that has rows of a part is
-- limited to their jobs; the row without a job stays when the others go, so that nothing is opened by taking them away.
create table @extschema@.permission (
    role regrole not null,
    part text not null,
    namespace text not null default '',
    job_type text not null default '',
    primary key (part, role, namespace, job_type)
);

-- The role that registered a worker: sessions of another are never ended for it.
alter table @extschema@.worker add column role oid;
