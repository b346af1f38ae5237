"""Mutations of the circuit breaker."""

from tests.mutations.mutation import Mutation

BREAKER, PROBE = "tests/integration/test_breaker.py", "tests/integration/test_breaker_probe.py"
ORDERS = "tests/isolation/test_breaker.py"
RULES, WORKER_CALLS = "pool/lib/breaker.sql", "pool/api/v1/worker.sql"

BROKEN = (
    Mutation(
        "half open, all may claim",
        RULES,
        "then 0\n        else 1 end",
        "then 0 end",
        f"{PROBE}::test_half_open_one_unit_of_one_resource_is_claimed_and_closes_it",
    ),
    Mutation(
        "half open, two probe at once",
        RULES,
        "    select * into j from @extschema@.job where id = j.id for no key update;\n    return",
        "    return",
        ORDERS,
    ),
    Mutation(
        "attempts are used up while it is open",
        RULES,
        "'attempts', greatest(0, (f.value ->> 'attempts')::int - 1)",
        "'attempts', (f.value ->> 'attempts')::int",
        f"{BREAKER}::test_what_fails_while_it_is_open_uses_up_no_attempt",
    ),
    Mutation(
        "whoever is done closes it",
        RULES,
        "elsif j.open_until is not null then",
        "elsif j.open_until is not null and not p_is_done then",
        f"{BREAKER}::test_what_fails_while_it_is_open_uses_up_no_attempt",
    ),
    Mutation(
        "a late settlement counts as a failure",
        RULES,
        "and resource = any(p_valid)\n",
        "\n",
        f"{BREAKER}::test_a_late_settlement_does_not_count",
    ),
    Mutation(
        "who is asleep while it is open asks all the time",
        WORKER_CALLS,
        "claimable := coalesce(@extschema@.breaker_admits(j) > 0, true) and (",
        "claimable := (",
        f"{BREAKER}::test_it_opens_after_so_many_tries_that_failed_alike_of_all_workers",
    ),
)
