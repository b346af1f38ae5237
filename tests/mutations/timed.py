"""Mutations of what is measured, and of what goes around a handler."""

from tests.mutations.mutation import Mutation

TIMES = "tests/integration/test_unit_times.py"

TIMED = (
    Mutation(
        "a second try waits since the first",
        "pool/lib/outcome.sql",
        "f.\"to\" in ('delayed', 'ready') and",
        "f.\"to\" in ('delayed') and",
        f"{TIMES}::test_a_second_try_waits_since_it_was_due[Block]",
    ),
    Mutation(
        "the total is forgotten with its minutes",
        "pool/lib/times.sql",
        "minute > '-infinity' and minute < kept_since",
        "minute < kept_since",
        f"{TIMES}::test_what_workers_say_is_kept_by_minute_for_an_hour_and_all_in_all",
    ),
    Mutation(
        "what was said is said again",
        "runtime/worker/chores.py",
        "self._timing.recorded(news)",
        "pass",
        f"{TIMES}::test_what_was_said_is_not_said_again",
    ),
    Mutation(
        "a call is as long as what follows it",
        "runtime/executor/progress.py",
        "            self._measure(now())",
        "            pass",
        f"{TIMES}::test_the_units_of_a_transaction_are_counted_without_its_commit",
    ),
    Mutation(
        "a child comes out of what goes around the handler",
        "runtime/executor/handler.py",
        "surrounded_async(finishing_async(function), around)",
        "finishing_async(surrounded_async(function, around))",
        "tests/integration/test_around.py::test_a_child_that_comes_back_out_of_the_handler_ends_there[act_async]",
    ),
)
