"""Mutations of what people do: cancel, pause, retry."""

from tests.mutations.mutation import Mutation

ACTS = "tests/integration/test_acts.py"
HAND_OUT, OUTCOME, UPKEEP = "pool/lib/hand_out.sql", "pool/lib/outcome.sql", "pool/lib/upkeep.sql"
OPERATOR_CALLS = "pool/api/v1/operator.sql"

ACTED = (
    Mutation(
        "a cancelled unit is handed out",
        HAND_OUT,
        "\n                and cancelled is null",
        "",
        f"{ACTS}::test_what_was_cancelled_before_it_was_handed_out_never_is",
    ),
    Mutation(
        "a cancelled unit is tried again",
        OUTCOME,
        """state = case when u.cancelled is not null then 'dead' else f."to" end,""",
        'state = f."to",',
        f"{ACTS}::test_what_runs_is_marked_and_dead_when_its_lease_ends",
    ),
    Mutation(
        "a unit whose worker died stays cancelled and never ends",
        UPKEEP,
        "        perform @extschema@.end_cancelled(p_job);\n",
        "",
        f"{ACTS}::test_a_cancelled_unit_of_a_worker_that_died_is_dead",
    ),
    Mutation(
        "a cancelled unit starts",
        "runtime/executor/progress.py",
        "deadline or self._reasons():",
        "deadline:",
        "tests/integration/test_cancel.py::test_what_is_not_begun_does_not_begin",
    ),
    Mutation(
        "a wake ends the pause of a resource",
        HAND_OUT,
        "select case when s.paused then false\n        when",
        "select case when",
        f"{ACTS}::test_a_paused_resource_is_not_leased_again",
    ),
    Mutation(
        "a paused resource is ready when its lease ends",
        OUTCOME,
        "else case when s.paused then 'waiting' else 'ready' end end",
        "else 'ready' end",
        f"{ACTS}::test_a_paused_resource_is_not_leased_again",
    ),
    Mutation(
        "an apply ends the pause of a job",
        OPERATOR_CALLS,
        "schedule_limit = case when j.paused_at is null then excluded.schedule_limit else 0 end,",
        "schedule_limit = excluded.schedule_limit,",
        f"{ACTS}::test_a_paused_job_claims_nothing_and_stays_paused",
    ),
)
