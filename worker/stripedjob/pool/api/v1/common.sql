-- What every role may call.

-- The version of the schema, for those who may not read of it.
create or replace function @extschema@.schema_version() returns int language sql stable as $$
    select coalesce(max(version), 0) from @extschema@.migration
$$;

-- The id of a job, or an error that says what to do.
create or replace function @extschema@.job_id(p_namespace text, p_job_type text) returns int
    language plpgsql stable as $$
declare
    found_id int;
begin
    select id into found_id from @extschema@.job where namespace = p_namespace and job_type = p_job_type;
    if found_id is null then
        raise exception 'there is no job type "%" in namespace "%"', p_job_type, p_namespace
            using errcode = 'no_data_found', hint = 'Apply its StripedJob first, or run "stripedjob migrate FILE".';
    end if;
    return found_id;
end
$$;
