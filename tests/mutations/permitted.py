"""The mutations of who may do what."""

from tests.mutations.mutation import Mutation

JOBS, ATTACKS = "tests/integration/test_rights_jobs.py", "tests/integration/test_rights_attacks.py"
CHECKS, GRANTS = "pool/lib/rights.sql", "pool/install/grants.py"

PERMITTED = (
    Mutation(
        "who may work on one job may work on all",
        CHECKS,
        "@extschema@.may(p_namespace, p_job_type, p_part) is not true then",
        "false then",
        f"{JOBS}::test_who_was_granted_one_job_can_do_nothing_with_another",
    ),
    Mutation(
        "who was granted nothing gets through somebody else's function",
        CHECKS,
        "pg_has_role(caller, a.grantee, 'usage'))",
        "true)",
        f"{JOBS}::test_a_limited_role_gets_no_further_through_somebody_else",
    ),
    Mutation(
        "SET ROLE is not looked at",
        CHECKS,
        "coalesce(nullif(current_setting('role'), 'none'), session_user)",
        "session_user",
        f"{JOBS}::test_members_of_a_limited_role_are_limited",
    ),
    Mutation(
        "the session of another role is ended",
        "pool/lib/reap.sql",
        "and usesysid = p_role ",
        "",
        f"{ATTACKS}::test_a_worker_ends_no_session_of_another_role_by_taking_its_name",
    ),
    Mutation(
        "settle takes a worker of another job",
        "pool/api/v1/worker.sql",
        "lock_refusals = w.lock_refusals + p_lock_refusals\n    where id = p_worker and job_id = p_job;",
        "lock_refusals = w.lock_refusals + p_lock_refusals\n    where id = p_worker;",
        f"{JOBS}::test_a_worker_of_one_job_cannot_speak_for_one_of_another",
    ),
    Mutation(
        "the API has the search path of who calls",
        GRANTS,
        "security definer set search_path = {SEARCH_PATH}",
        "security definer",
        f"{ATTACKS}::test_objects_of_others_are_never_taken_for_postgres_own",
    ),
    Mutation(
        "a schedule's query runs as the owner",
        "pool/api/v1/schedule.sql",
        "language plpgsql security invoker as",
        "language plpgsql as",
        f"{ATTACKS}::test_a_schedules_query_runs_with_the_rights_of_who_calls",
    ),
    Mutation(
        "what is new keeps what a database grants by default",
        GRANTS,
        "for grant in sorted(set(one.grants) - wanted):",
        "for grant in ():",
        "tests/integration/test_pool_migrate.py::test_nothing_is_opened_by_what_a_database_or_others_give_by_default",
    ),
    Mutation(
        "what others have by the same name is taken for ours",
        GRANTS,
        "for one in before.granted if one.whole in before.ours}",
        "for one in before.granted}",
        "tests/integration/test_pool_migrate.py::test_nothing_is_opened_by_what_a_database_or_others_give_by_default",
    ),
)
