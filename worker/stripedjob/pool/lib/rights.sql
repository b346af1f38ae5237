-- For which jobs a role may call what it may call. That it may call a function, Postgres judges by EXECUTE; functions
-- of api/ then run with the rights of the pool's owner. The table `permission` limits roles that have rows in it.

-- Whether who calls may use a part of the API, named as its file is, for this job: by a row of a role that it is a
-- member of, or by the right to call the part's functions that it has from a role without rows. Who calls is the
-- session's role, or that of its SET ROLE; in here, `current_user` is the owner.
create or replace function @extschema@.may(p_namespace text, p_job_type text, p_part text) returns boolean
    language plpgsql stable as $$
declare
    caller constant name := coalesce(nullif(current_setting('role'), 'none'), session_user);
    -- one function of each part: all of a part are granted together
    one_of_it constant text := case p_part when 'enqueuer' then 'enqueue' when 'worker' then 'register'
        when 'delegator' then 'lead' when 'operator' then 'apply_job' when 'person' then 'revive'
        when 'viewer' then 'explain' when 'page' then 'page_job' when 'payloads' then 'payloads'
        when 'upkeep' then 'upkeep'
        when 'schedule' then 'schedule_begin' when 'locks' then 'acquire_locks' end;
begin
    return exists (
        select from @extschema@.permission p
        where p.part = p_part and p.namespace = p_namespace and p.job_type = p_job_type
            and pg_has_role(caller, p.role, 'usage')
    ) or exists (
        select from pg_proc f cross join lateral aclexplode(f.proacl) a
        where f.pronamespace = '@extschema@'::regnamespace and f.proname = one_of_it and a.privilege_type = 'EXECUTE'
            and (a.grantee = 0 or pg_has_role(caller, a.grantee, 'usage'))
            and not exists (select from @extschema@.permission p where p.part = p_part and p.role = a.grantee)
    );
end
$$;

-- Raises where who calls may not use a part of the API for a job. Costs next to nothing while nobody is limited.
create or replace function @extschema@.check_name(p_namespace text, p_job_type text, p_part text) returns void
    language plpgsql stable as $$
begin
    if exists (select from @extschema@.permission)
        and @extschema@.may(p_namespace, p_job_type, p_part) is not true then
        raise exception 'permission denied for this job' using errcode = 'insufficient_privilege',
            hint = format('Grant the role the part "%s" of the pool for it: see "stripedjob grant --help".', p_part);
    end if;
end
$$;

create or replace function @extschema@.check_job(p_job int, p_part text) returns void language plpgsql stable as $$
begin
    if exists (select from @extschema@.permission) then
        perform @extschema@.check_name(j.namespace, j.job_type, p_part) from @extschema@.job j where j.id = p_job;
    end if;
end
$$;
