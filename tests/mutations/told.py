"""Mutations of what is told: by the history, and for how long; by a worker."""

from tests.mutations.mutation import Mutation

HISTORY, KEPT = "tests/integration/test_history.py", "tests/integration/test_history_kept.py"
LIB = "pool/lib/history.sql"

TOLD = (
    Mutation(
        "what is kept is emptied",
        LIB,
        "if ends[place + 1] <= this_moment - longest then",
        "if true then",
        f"{KEPT}::test_what_is_kept_is_there_and_what_is_not_goes",
    ),
    Mutation(
        "the history waits for who reads it",
        LIB,
        " in access exclusive mode nowait",
        " in access exclusive mode",
        f"{KEPT}::test_whoever_reads_or_writes_for_long_keeps_nobody_waiting",
    ),
    Mutation(
        "a job shows what another keeps for longer",
        LIB,
        "where f.at > @extschema@.clock() - make_interval(secs => (",
        "where true or f.at > @extschema@.clock() - make_interval(secs => (",
        f"{KEPT}::test_the_job_that_keeps_it_longest_says_how_long_and_each_shows_its_own",
    ),
    Mutation(
        "a late settlement is told as done",
        LIB,
        "finish_and_note(j, p_worker, p_resources, p_done)",
        "finish_and_note(j, p_worker, null, p_done)",
        f"{HISTORY}::test_one_late_settlement_among_others_is_not_told",
    ),
    Mutation(
        "what was asked for is told, not what was recorded",
        "runtime/observe.py",
        "for failure in map(recorded.of, one.failed):",
        "for failure in one.failed:",
        "tests/integration/test_health.py::test_what_was_recorded_is_counted_and_told_not_what_was_asked_for",
    ),
    Mutation(
        "a unit does not tell that its job was paused",
        LIB,
        "h.resource is null\n                and h.unit is null and h.id > span.first",
        "h.resource is null\n                and h.unit is not null and h.id > span.first",
        f"{HISTORY}::test_a_pause_of_the_job_is_told_of_it_of_each_resource_and_of_units_that_were_there",
    ),
    Mutation(
        "units are told under each other's fence",
        LIB,
        "generate_series(l.upto - l.n + 1, l.upto) i",
        "generate_series(1, l.n) i",
        f"{HISTORY}::test_many_units_of_many_resources_are_leased_and_done_as_they_were",
    ),
)
