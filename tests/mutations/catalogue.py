"""The mutations: one promise broken in each, and the test that must fail then."""

from tests.mutations.acted import ACTED
from tests.mutations.broken import BROKEN
from tests.mutations.mutation import Mutation
from tests.mutations.paged import PAGED
from tests.mutations.permitted import PERMITTED
from tests.mutations.timed import TIMED
from tests.mutations.told import TOLD

DELEGATOR_CALLS = "pool/api/v1/delegator.sql"
ENQUEUER_CALLS = "pool/api/v1/enqueuer.sql"
OPERATOR_CALLS = "pool/api/v1/operator.sql"
WORKER_CALLS = "pool/api/v1/worker.sql"
ASSIGN = "pool/lib/assign.sql"
HAND_OUT = "pool/lib/hand_out.sql"
LEASE = "pool/lib/lease.sql"
NOTIFY = "pool/lib/notify.sql"
DECISIONS = "tests/integration/test_pool_decisions.py"
OUTCOME = "pool/lib/outcome.sql"
UNIT_STATES = "pool/lib/unit_states.sql"
UPKEEP = "pool/lib/upkeep.sql"
LEASES, UNITS = "tests/integration/test_pool_leases.py", "tests/integration/test_pool_units.py"
SESSIONS = "tests/integration/test_pool_sessions.py"
RECALL = "tests/integration/test_pool_recall.py"
GUARDS, MEETINGS = "tests/integration/test_pool_guards.py", "tests/integration/test_pool_meetings.py"
FIFO, DELEGATION = "tests/integration/test_fifo.py", "tests/integration/test_delegation.py"
LOCKS, WORKER = "tests/integration/test_locks.py", "tests/integration/test_worker.py"
SCHEMA, DEDUPLICATION = "tests/integration/test_pool_schema.py", "tests/integration/test_deduplication.py"
SHARING, SHARED_FAULTS = "tests/integration/test_shared_transactions.py", "tests/integration/test_shared_faults.py"
ENDS, TRANSACTIONS = "tests/integration/test_executor_ends.py", "tests/integration/test_transactions.py"
FAIRNESS = "tests/integration/test_fairness.py"
CAME = f"{FAIRNESS}::test_resources_go_in_the_order_in_which_they_came"
COMPLETED = f"{GUARDS}::test_units_are_completed_under_the_newest_fence_alone_and_by_its_worker_alone"
FOLDED = f"{GUARDS}::test_a_wake_that_is_folded_while_its_resource_is_leased_is_not_forgotten"
PASSED = f"{MEETINGS}::test_upkeep_goes_past_a_worker_that_is_at_a_call_and_past_another_upkeep"

FENCED = (
    Mutation(
        "settle takes any fence",
        WORKER_CALLS,
        "and worker_id is not distinct from p_worker and fence = x.fence",
        "and worker_id is not distinct from worker_id",
        f"{LEASES}::test_a35_a_late_settlement_changes_nothing_and_is_counted",
    ),
    Mutation(
        "settle forgets the numbers of batches",
        WORKER_CALLS,
        "for no key update) >= p_batch then",
        "for no key update) > p_batch then",
        f"{GUARDS}::test_a_batch_that_comes_again_is_no_stale_one",
    ),
    Mutation(
        "complete takes any fence",
        WORKER_CALLS,
        "and worker_id = p_worker and fence = p_fence;",
        "and worker_id = p_worker;",
        COMPLETED,
    ),
    Mutation(
        "complete takes any worker",
        WORKER_CALLS,
        "and worker_id = p_worker and fence = p_fence;",
        "and fence = p_fence;",
        COMPLETED,
    ),
    Mutation(
        "the answer of complete is not looked at",
        "pool/effects/handler_session.py",
        'if first_row(cursor) != ["t"]:',
        "if not first_row(cursor):",
        f"{WORKER}::test_a_lost_lease_rolls_its_transaction_back",
    ),
    Mutation(
        "a renewal hides lost leases",
        WORKER_CALLS,
        "lease(w.job_id) where id = p_worker;\n    return @extschema@.lost_fences(p_worker, p_fences);",
        "lease(w.job_id) where id = p_worker;\n    return '{}';",
        f"{GUARDS}::test_a_renewal_names_the_leases_that_are_lost",
    ),
)
HANDLED = (
    Mutation(
        "a unit starts after the deadline",
        "runtime/executor/progress.py",
        "if moment >= self._shared_state.deadline or",
        "if",
        "tests/integration/test_executor.py::test_nothing_starts_after_the_deadline",
    ),
    Mutation(
        "an executor goes on when its main process has stopped",
        "runtime/executor/main.py",
        "if left <= 0 and self._shared_state.running():",
        "if left <= -3600 and self._shared_state.running():",
        f"{ENDS}::test_an_executor_ends_itself_where_its_main_process_does_not[pauses]",
    ),
    Mutation(
        "what a lost lease brought starts all the same",
        "runtime/executor/supervisor.py",
        "        self._given.clear()\n        self._cancelled.clear()\n",
        "        self._cancelled.clear()\n",
        f"{ENDS}::test_what_was_handed_over_and_forgotten_never_starts",
    ),
    Mutation(
        "a connection that is lost after the handler is a try",
        "pool/effects/transaction.py",
        "return lost(error) if self._is_lost(error) else error",
        "return error",
        f"{TRANSACTIONS}::test_a_connection_lost_after_the_handler_leaves_the_units_as_they_were",
    ),
    Mutation(
        "a connection that ends without a word is a try",
        "pool/effects/transaction.py",
        'ENDED = {"57P01", "57P02", "08P01", ""}',
        'ENDED = {"57P01", "57P02", "08P01"}',
        f"{TRANSACTIONS}::test_a_connection_that_ends_without_a_word_is_no_try",
    ),
    Mutation(
        "a handler is called on a stand-by",
        "pool/effects/transaction.py",
        "if self._session.is_standby():",
        "if False:",
        f"{TRANSACTIONS}::test_a_handler_is_not_called_on_a_stand_by",
    ),
)
IDLE = (
    Mutation(
        "who was busy until now sleeps as long as others",
        "runtime/idle.py",
        "min(seconds_max, self.pause_seconds())",
        "seconds_max",
        "tests/unit/test_idle.py::test_the_longer_it_is_idle_the_longer_it_sleeps",
    ),
    Mutation(
        "who has just leased something looks for the others as seldom as ever",
        "runtime/worker/keeper.py",
        "min(self._at, self._again_at)",
        "self._at",
        "tests/isolation/test_missed_calls.py::test_every_set_of_times[asleep-long]",
    ),
)
SHARED = (
    Mutation(
        "a unit that fails leaves its effect to the others' commit",
        "pool/effects/shared.py",
        'yield from session.execute(f"rollback to {SAVEPOINT}")',
        "yield from session.execute(SAVEPOINT)",
        f"{SHARING}::test_a_unit_that_fails_fails_alone[direct-error-sync]",
    ),
    Mutation(
        "a unit is said to be done before the commit",
        "runtime/executor/progress.py",
        "if self._held is None and moment - self._reported > REPORT_SECONDS and",
        "if moment - self._reported >= 0 and",
        f"{SHARING}::test_nothing_is_said_while_the_transaction_is_open_and_one_unit_runs[direct-sync]",
    ),
    Mutation(
        "what was not committed counts as tried",
        "runtime/executor/progress.py",
        "self._tried, self._done, faults, calls = self._held",
        "_, self._done, faults, calls = self._held",
        f"{SHARED_FAULTS}::test_a_commit_whose_answer_is_lost_counts[sync]",
    ),
    Mutation(
        "a conflict of what is shared is one unit's fault",
        "pool/effects/shared.py",
        "OF_SHARING = CONFLICTS | ",
        "OF_SHARING = ",
        f"{SHARING}::test_a_conflict_is_nobodys_fault[direct-handler-40P01-sync]",
    ),
    Mutation(
        "what a handler committed with others is not completed",
        "pool/effects/shared.py",
        "        yield from self.begin()\n        self.is_cut = True",
        "        raise SharedLostError",
        f"{SHARING}::test_a_handler_that_ends_the_transaction_costs_the_others_nothing[direct-False-commit-sync]",
    ),
    Mutation(
        "settings last until the commit",
        "pool/effects/shared.py",
        "{deferred}{session.reset}; release",
        "{deferred}release",
        f"{SHARING}::test_what_a_handler_does_to_its_session_ends_with_it[direct-False-sync]",
    ),
    Mutation(
        "what was deferred once is never deferred again",
        "pool/effects/shared.py",
        '"set constraints all deferred; " if',
        '"" if',
        f"{SHARING}::test_what_is_deferred_is_deferred_to_the_end_of_its_unit",
    ),
)
MET = (
    Mutation(
        "a claim does not lock its worker",
        LEASE,
        "where id = p_worker for no key update;\n    if w.id is null",
        "where id = p_worker;\n    if w.id is null",
        f"{MEETINGS}::test_a_worker_that_is_being_considered_dead_claims_nothing",
    ),
    Mutation(
        "a claim of an old session is accepted",
        LEASE,
        "if p_session is distinct from w.session and p_session is not null then",
        "if false then",
        f"{MEETINGS}::test_a_claim_of_a_session_that_is_over_is_refused",
    ),
    Mutation(
        "a worker comes back before its row is locked",
        WORKER_CALLS,
        "declare\n    w @extschema@.worker := @extschema@.lock_worker(p_worker);\n"
        "begin\n    if p_session <= w.session then",
        "declare\n    w @extschema@.worker;\nbegin\n    select * into w from @extschema@.worker where id = p_worker;\n"
        "    update @extschema@.stripe set state = 'ready', worker_id = null\n"
        "    where worker_id = p_worker and fence <> all(p_fences);\n"
        "    update @extschema@.worker set session = p_session where id = p_worker;\n"
        "    return '{}';\n    if p_session <= w.session then",
        f"{MEETINGS}::test_a_worker_that_comes_back_waits_for_its_old_claim_and_takes_it_back",
    ),
    Mutation(
        "a worker that comes back keeps what it does not know of",
        WORKER_CALLS,
        "    perform @extschema@.give_back(w, p_fences);\n",
        "",
        f"{GUARDS}::test_a_worker_that_comes_back_loses_what_it_does_not_know_of",
    ),
    Mutation(
        "a worker comes back under an old number",
        WORKER_CALLS,
        "    if p_session <= w.session then",
        "    if false then",
        f"{SESSIONS}::test_what_an_earlier_session_still_sends_is_refused",
    ),
    Mutation(
        "upkeep waits for a resource whose handler has not committed",
        "pool/lib/places.sql",
        "order by resource desc limit 1 for update skip locked) s",
        "order by resource desc limit 1 for update) s",
        f"{SESSIONS}::test_a_handler_that_stops_before_its_commit_stops_neither_the_job_nor_for_long_its_resource",
    ),
    Mutation(
        "sessions of a dead worker go on",
        "pool/lib/reap.sql",
        "perform pg_terminate_backend(pid) from pg_stat_activity",
        "perform pid from pg_stat_activity",
        f"{SESSIONS}::test_an_open_transaction_of_a_stopped_worker_ends_with_its_lease",
    ),
    Mutation(
        "two may take the last slot",
        LEASE,
        "from @extschema@.job where id = w.job_id for no key update;",
        "from @extschema@.job where id = w.job_id;",
        f"{MEETINGS}::test_of_two_that_want_the_last_slot_the_second_waits_and_is_refused",
    ),
    Mutation(
        "the reaper waits for workers",
        "pool/lib/reap.sql",
        "order by id limit 16 for update skip locked\n    loop",
        "order by id limit 16 for update\n    loop",
        PASSED,
    ),
    Mutation(
        "the reaper waits for leases",
        "pool/lib/reap.sql",
        "where worker_id = w.id and state = 'leased'\n            for update skip locked",
        "where worker_id = w.id and state = 'leased' for update",
        f"{MEETINGS}::test_a_lease_that_is_being_settled_is_not_taken_back",
    ),
    Mutation(
        "upkeep waits for upkeep",
        UPKEEP,
        "where job_id = p_job and kind = p_kind for no key update skip locked;",
        "where job_id = p_job and kind = p_kind for no key update;",
        PASSED,
    ),
    Mutation(
        "what is assigned to is not locked",
        ASSIGN,
        "and expires_at > @extschema@.clock() for key share skip locked",
        "and expires_at > @extschema@.clock()",
        f"{MEETINGS}::test_nothing_is_assigned_to_a_worker_that_leaves",
    ),
    Mutation(
        "retention locks the leases of the living",
        "pool/lib/clean.sql",
        "orphans as materialized (",
        "orphans as not materialized (",
        "tests/isolation/test_patience.py::test_retention_locks_no_lease_of_the_living",
    ),
)
DEAD = (
    Mutation(
        "a worker that leaves keeps its leases",
        WORKER_CALLS,
        "    perform @extschema@.give_back(w, '{}');\n",
        "",
        f"{LEASES}::test_leaving_gives_everything_back_and_counts_no_crash",
    ),
    Mutation(
        "a death has no culprit",
        "pool/lib/reap.sql",
        "if w.leases = 1 then",
        "if false then",
        f"{LEASES}::test_a42_a_unit_that_kills_its_workers_is_held",
    ),
    Mutation(
        "a suspect comes with others of its resource",
        WORKER_CALLS,
        "case when leased.suspect or admitted = 1 then 1 else p_units end",
        "p_units",
        f"{GUARDS}::test_what_may_have_killed_its_worker_is_handed_out_alone",
    ),
    Mutation(
        "what a worker counted goes with it",
        OUTCOME,
        "done = j.done + gone.done,",
        "done = j.done,",
        f"{GUARDS}::test_what_a_worker_did_is_counted_when_it_has_gone",
    ),
)
LIMITED = (
    Mutation(
        "the limit is left to the replicas",
        LEASE,
        "if allowed <= (select count(*)",
        "if allowed < 0 * (select count(*)",
        f"{LEASES}::test_a14_no_more_workers_than_the_limit_may_claim",
    ),
    Mutation(
        "a lowered limit stops nobody",
        LEASE,
        "return allowed > (select count(*)",
        "return allowed >= 0 * (select count(*)",
        f"{LEASES}::test_a16_a_lowered_limit_stops_the_youngest",
    ),
    Mutation(
        "a worker without work keeps its slot",
        LEASE,
        "set wants = 0, lacks = 0, working = is_leased",
        "set wants = 0, lacks = 0, working = true",
        f"{GUARDS}::test_a_slot_is_free_when_its_worker_has_nothing_left",
    ),
    Mutation(
        "a worker's leases to come count as ended",
        LEASE,
        "coalesce(pg_sequence_last_value('@extschema@.fence'), 0)",
        "coalesce(pg_sequence_last_value('@extschema@.fence'), 0) + 1000",
        f"{RECALL}::test_what_was_leased_since_is_seen",
    ),
    Mutation(
        "who finds nothing looks from the start each time",
        LEASE,
        " or not @extschema@.may_look('ready', p_job)",
        "",
        f"{RECALL}::test_what_stands_before_the_place_waits_for_the_next_look_from_the_start",
    ),
    Mutation(
        "one slow look for wakes is enough",
        UPKEEP,
        "is_sure constant boolean := known is not null or",
        "is_sure constant boolean := true or",
        f"{RECALL}::test_one_slow_look_hides_nothing[has_wakes-1-before]",
    ),
    Mutation(
        "who finds no wakes looks from the start each time",
        UPKEEP,
        "coalesce(first_id - 1, newest, known)",
        "coalesce(first_id - 1, known)",
        f"{RECALL}::test_two_slow_looks_that_find_nothing_are_enough[has_wakes-wakes-0]",
    ),
    Mutation(
        "each place is looked for twice",
        LEASE,
        "known is not null or @extschema@.were_slow('ready', p_job)",
        "known is not null",
        f"{RECALL}::test_after_its_time_a_place_is_found_by_one_slow_look[nothing-first_ready-ready--infinity]",
    ),
    Mutation(
        "leased resources are not outstanding",
        ASSIGN,
        "s.area = this_area and s.state in ('assigned', 'leased'));",
        "s.area = this_area and s.state = 'assigned');",
        f"{GUARDS}::test_what_is_leased_counts_as_outstanding",
    ),
    Mutation(
        "a start takes no token",
        ASSIGN,
        "set tokens = a.tokens - n where",
        "set tokens = a.tokens where",
        f"{GUARDS}::test_a_start_takes_a_token",
    ),
    Mutation(
        "an old delegator assigns",
        DELEGATOR_CALLS,
        "where job_id = p_job and term = p_term and expires_at > @extschema@.clock();",
        "where job_id = p_job and expires_at > @extschema@.clock();",
        f"{DELEGATION}::test_of_two_delegators_one_leads_and_a_paused_old_one_assigns_nothing",
    ),
)
WOKEN = (
    Mutation(
        "a wake does not mark a leased stripe",
        UPKEEP,
        "ready = s.ready + w.units, woken = true,",
        "ready = s.ready + w.units, woken = s.woken,",
        FOLDED,
    ),
    Mutation(
        "a stripe that was woken is removed",
        WORKER_CALLS,
        "coalesce(x.after, 'idle') = 'idle' and not s.woken and not s.paused as goes",
        "coalesce(x.after, 'idle') = 'idle' and not s.paused as goes",
        FOLDED,
    ),
    Mutation(
        "wakes of leased stripes are thrown away",
        UPKEEP,
        "from taken where resource <> ''\n",
        "from taken where resource <> '' and not exists (select from @extschema@.stripe o"
        " where o.job_id = p_job and o.resource = taken.resource and o.state = 'leased')\n",
        FOLDED,
    ),
    Mutation(
        "what was decided on what is long past holds for all",
        NOTIFY,
        "as_of_now constant boolean := current_setting('transaction_isolation') = 'read committed';",
        "as_of_now constant boolean := true;",
        f"{DECISIONS}::test_a_transaction_that_sees_what_was_decides_for_itself_alone[repeatable read]",
    ),
    Mutation(
        "nobody is called again for 100 ms, whoever came",
        NOTIFY,
        "called is not null and some_came is not true",
        "called is not null",
        f"{DECISIONS}::test_who_was_called_is_given_time_to_come[polls]",
    ),
    Mutation(
        "whoever asks takes what another is about to claim",
        WORKER_CALLS,
        "where o.job_id = w.job_id and o.id <> w.id and @extschema@.comes_soon(o)));",
        "where o.job_id = w.job_id and o.id <> w.id and false));",
        f"{DECISIONS}::test_what_another_is_about_to_claim_is_left_to_it[9-False]",
    ),
    Mutation(
        "a worker that has settled is expected for a second",
        NOTIFY,
        "interval '10 milliseconds'\n$$;",
        "interval '1 second'\n$$;",
        f"{DECISIONS}::test_a_worker_that_has_settled_is_expected_for_ten_milliseconds[11-1]",
    ),
    Mutation(
        "who claims is not seen to have come",
        "pool/lib/lease.sql",
        "working = true, polled_at = @extschema@.clock(),",
        "working = true,",
        f"{DECISIONS}::test_who_was_called_is_given_time_to_come[claims]",
    ),
    Mutation(
        "nobody is called when a unit is committed",
        NOTIFY,
        "if some_back or not coalesce(some_idle, true)",
        "if true or some_back or not coalesce(some_idle, true)",
        "tests/integration/test_pool_calls.py::test_an_idle_worker_is_called_once_when_a_unit_is_committed",
    ),
    Mutation(
        "an idle worker sleeps over what is due",
        UPKEEP,
        "extract(epoch from @extschema@.next_event(p_job) - @extschema@.clock())",
        "3600",
        "tests/integration/test_pool_calls.py::test_an_idle_worker_sleeps_until_what_happens_next",
    ),
    Mutation(
        "a worker claims under a lease that it let run out while it was idle",
        "runtime/worker/loop.py",
        "or not (leases or self._may_claim())",
        "or not leases",
        "tests/integration/test_worker.py::test_a_worker_that_was_idle_for_longer_than_a_lease_works_at_its_first_claim",
    ),
    Mutation(
        "a wait ends at once",
        UPKEEP,
        "where job_id = p_job and state = 'waiting' and next_at <= this_moment\n        order",
        "where job_id = p_job and state = 'waiting'\n        order",
        f"{FIFO}::test_a_group_waits_for_the_retry_of_its_unit",
    ),
)
ORDERED = (
    Mutation(
        "a barrier is ignored",
        HAND_OUT,
        "coalesce(l.barrier, no_barrier)",
        "no_barrier",
        f"{FIFO}::test_a_delayed_unit_holds_back_those_after_it_alone",
    ),
    Mutation(
        "the planner may look for a barrier by time",
        "pool/schema/0010_one_way_to_a_row.sql",
        "where state = 'delayed' and due_at is not null",
        "where state = 'delayed'",
        "tests/integration/test_pool_reads.py::test_no_call_reads_a_whole_table[of emptied tables-claim]",
    ),
    Mutation(
        "the newest unit goes first",
        HAND_OUT,
        "order by unit.resource, id limit p_units + 1",
        "order by unit.resource desc, id desc limit p_units + 1",
        f"{FIFO}::test_batches_keep_the_order_of_their_group",
    ),
    Mutation(
        "resources of one statement are woken in any order",
        "pool/lib/arrival.sql",
        "order by i.job_id, min(i.id);",
        "order by i.job_id, i.woken;",
        f"{CAME}[Mutex-1]",
    ),
    Mutation(
        "resources become ready in the order of their names",
        UPKEEP,
        "order by w.first_id",
        "order by w.resource",
        f"{CAME}[Mutex-20]",
    ),
    Mutation(
        "resources that are due become ready in any order",
        UPKEEP,
        " order by min(due_at), min(id)",
        "",
        f"{FAIRNESS}::test_resources_that_are_ready_again_go_by_their_times_or_their_units[Mutex-due]",
    ),
    Mutation(
        "a claim has no bound in bytes",
        HAND_OUT,
        "- octet_length(h.payload) < p_bytes",
        "- octet_length(h.payload) < p_bytes * 1000000",
        f"{GUARDS}::test_what_is_handed_out_fits_into_the_bytes_that_were_asked_for",
    ),
    Mutation(
        "a resource with a held unit goes on",
        "runtime/worker/decide.py",
        'float("inf") if held else max(waits)',
        "0.0 if held else max(waits)",
        "tests/unit/test_decide.py",
    ),
)
LOCKED = (
    Mutation(
        "a lock is released without its token",
        "locks/release.lua",
        "holders[i - from + 1] == ARGV[i] and 1",
        "holders[i - from + 1] and 1",
        f"{LOCKS}::test_a_late_release_does_not_free_the_next_holders_lock",
    ),
    Mutation(
        "a lock is granted over another's",
        "locks/acquire.lua",
        "if holder == token then",
        "if holder then",
        f"{LOCKS}::test_another_token_is_refused_within_one_process_too",
    ),
)
RECORDED = (
    Mutation(
        "every change of a unit's state is legal",
        UNIT_STATES,
        "if (old.state, new.state) in (",
        "if true or (old.state, new.state) in (",
        f"{UNITS}::test_a40_the_database_refuses_illegal_transitions",
    ),
    Mutation(
        "an older generation overwrites a newer one",
        OPERATOR_CALLS,
        "where j.generation <= excluded.generation",
        "where true",
        f"{SCHEMA}::test_a06_applying_again_updates_in_place_and_never_from_an_older_generation",
    ),
    Mutation(
        "an id that is still good is delivered again",
        ENQUEUER_CALLS,
        "if not found then\n        select unit_id into first_id",
        "if false then\n        select unit_id into first_id",
        f"{DEDUPLICATION}::test_a28_the_same_id_within_5_minutes_is_delivered_once",
    ),
    Mutation(
        "a unit is tried once too often",
        "runtime/worker/decide.py",
        "if attempts >= policy.attempts_max or",
        "if attempts > policy.attempts_max or",
        "tests/unit/test_decide.py",
    ),
)
MUTATIONS = (
    *FENCED,
    *HANDLED,
    *IDLE,
    *SHARED,
    *MET,
    *DEAD,
    *LIMITED,
    *WOKEN,
    *ORDERED,
    *LOCKED,
    *RECORDED,
    *PERMITTED,
    *PAGED,
    *ACTED,
    *BROKEN,
    *TIMED,
    *TOLD,
)
