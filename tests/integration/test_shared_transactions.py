"""Units of one lease share a transaction, and nothing else: each is done once, or fails alone."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from tests.support.slots import Slot, effect

from stripedjob import Dead
from stripedjob.pool.effects.shared import Shared
from stripedjob.runtime.executor.sharing import BYTES_MAX, SECONDS_MAX, SLOW_SECONDS_MAX, UNITS_MAX

if TYPE_CHECKING:
    from collections.abc import Callable

    from stripedjob.unit import Unit

pytestmark = pytest.mark.migrated

KINDS = pytest.mark.parametrize("kind", ["sync", "async"])
ALL = list(range(20))
ODD = 6  # the unit that does something wrong


def all_but(*units: int) -> list[int]:
    return [one for one in ALL if one not in units]


def is_recorded_before_it_is_said(slot: Slot) -> bool:
    said, recorded = 0, []
    for outcome in slot.outcomes:
        said += outcome.recorded
        recorded.append(said)
    return recorded == slot.recorded


@KINDS
def test_units_of_a_lease_share_a_transaction_up_to_a_number(pool_url: str, kind: str) -> None:
    slot = Slot(pool_url, kind, 2 * UNITS_MAX + 2)
    slot.work(effect)
    assert slot.transactions() == [UNITS_MAX, UNITS_MAX, 2]
    assert (slot.left(), slot.faults, slot.tried) == ([], {}, 2 * UNITS_MAX + 2)
    assert is_recorded_before_it_is_said(slot)


@KINDS
def test_and_up_to_a_time(pool_url: str, kind: str) -> None:
    slot = Slot(pool_url, kind, 9)

    def act(unit: Unit, conn: psycopg.Connection) -> None:
        effect(unit, conn)
        slot.time += 10 if unit.payload >= 6 else SECONDS_MAX / 3 + 0.001

    slot.work(act)
    assert slot.transactions() == [3, 3, 1, 1, 1]


@KINDS
@pytest.mark.parametrize(("commit_seconds", "calls"), [(0.01, 3), (0.03, 7), (0.1, 23), (60, 29)])
def test_which_is_longer_where_a_commit_is_slow(
    pool_url: str, kind: str, commit_seconds: float, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = Slot(pool_url, kind, 3 + 2 * calls)
    commit = Shared.commit

    def slow(*args: Any) -> Any:
        slot.time += commit_seconds
        return commit(*args)

    def act(unit: Unit, conn: psycopg.Connection) -> None:
        effect(unit, conn)
        slot.time += SECONDS_MAX / 3 + 0.001

    monkeypatch.setattr(Shared, "commit", slow)
    slot.work(act)
    assert slot.transactions() == [3, calls, calls]
    assert calls * (SECONDS_MAX / 3 + 0.001) < SLOW_SECONDS_MAX + SECONDS_MAX


def test_and_up_to_a_size(pool_url: str) -> None:
    slot = Slot(pool_url, "sync", 7, payload='"' + "x" * (BYTES_MAX // 3) + '"')
    slot.work(effect)
    assert slot.transactions() == [3, 3, 1]


OPEN: list[Any] = []


def leaves_a_block_open(_unit: Unit, conn: psycopg.Connection) -> None:
    """Do it on a plain connection: the other kind's is not entered by a thread."""
    if not isinstance(conn, psycopg.Connection):
        raise KeyError
    OPEN.append(conn.transaction())
    OPEN[-1].__enter__()


def raises(error: BaseException) -> Callable[[Unit, psycopg.Connection], None]:
    def act(_unit: Unit, _conn: psycopg.Connection) -> None:
        raise error

    return act


def swallows(_unit: Unit, conn: psycopg.Connection) -> None:
    with suppress(psycopg.Error):
        conn.execute("select 1/0")


def executes(query: str) -> Callable[[Unit, psycopg.Connection], None]:
    def act(_unit: Unit, conn: psycopg.Connection) -> None:
        conn.execute(query.encode())

    return act


FAILURES: dict[str, tuple[Callable[[Unit, psycopg.Connection], None], str]] = {
    "error": (raises(ValueError("broken")), "broken"),
    "dead": (raises(Dead("never")), "never"),
    "rollback": (raises(psycopg.Rollback()), "Rollback"),
    "exit": (raises(SystemExit(3)), "SystemExit"),
    "statement": (executes("select 1/0"), "DivisionByZero"),
    "swallowed": (swallows, "InFailedSqlTransaction"),
    "deferred": (executes("insert into child values (7)"), "ForeignKeyViolation"),
    "commit()": (lambda _unit, conn: conn.commit(), "ProgrammingError"),
    "rollback()": (lambda _unit, conn: conn.rollback(), "ProgrammingError"),
    "block": (leaves_a_block_open, ""),
    "closed": (lambda _unit, conn: conn.close(), "TransactionEndedError"),
    "gone": (executes("select pg_terminate_backend(pg_backend_pid())"), "AdminShutdown"),
}
SHARED = [name for name in FAILURES if name not in ("block", "closed", "gone")]  # the others break the connection


@KINDS
@pytest.mark.parametrize("name", FAILURES)
def test_a_unit_that_fails_fails_alone(pool_url: str, kind: str, name: str) -> None:
    slot, (fail, reason) = Slot(pool_url, kind), FAILURES[name]
    slot.site.sql("create table parent (id int primary key)")
    slot.site.sql("create table child (id int references parent deferrable initially deferred)")

    def act(unit: Unit, conn: psycopg.Connection) -> None:
        effect(unit, conn)
        if unit.payload == ODD:
            fail(unit, conn)

    slot.work(act)
    assert (slot.effects(), slot.left(), list(slot.faults)) == (all_but(ODD), [ODD], [ODD])
    assert reason in slot.faults[ODD]
    assert slot.tried == len(ALL)
    assert is_recorded_before_it_is_said(slot)
    if name in SHARED:
        assert (slot.transactions(), slot.calls) == ([len(ALL) - 1], ALL)


ENDINGS = ["commit", "commit; begin", "rollback", "rollback; begin", "release stripedjob_unit"]


@KINDS
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("then_raises", [False, True])
def test_a_handler_that_ends_the_transaction_costs_the_others_nothing(
    pool_url: str,
    kind: str,
    ending: str,
    then_raises: bool,  # noqa: FBT001
) -> None:
    slot = Slot(pool_url, kind)

    def act(unit: Unit, conn: psycopg.Connection) -> None:
        effect(unit, conn)
        if unit.payload == ODD:
            for statement in ending.split("; "):
                conn.execute(statement.encode())
            if then_raises:
                raise KeyError

    slot.work(act)
    assert [one for one in slot.effects() if one != ODD] == all_but(ODD)
    assert [one for one in slot.left() if one != ODD] == []
    assert set(slot.faults) <= {ODD}
    if ending.startswith("commit"):
        assert list(slot.faults) == [ODD]
        assert ("KeyError" if then_raises else "TransactionEndedError") in slot.faults[ODD]


# What a handler leaves behind in its session is not there for the next one.


def look(unit: Unit, conn: psycopg.Connection) -> Any:
    """Return all that a handler may find in its session, and change it."""
    settings = """select current_user, session_user, current_setting('search_path'), current_setting('work_mem'),
        current_setting('statement_timeout'), nullif(current_setting('app.user', true), ''),
        current_setting('transaction_read_only')"""
    found = conn.execute(settings).fetchone()
    conn.execute("set local work_mem to '7MB'")
    conn.execute("select set_config('app.user', 'mary', true), set_config('statement_timeout', '7777', false)")
    conn.execute("create temp table scratch (n int) on commit drop")
    conn.execute("create temp table if not exists kept (n int)")
    rows = conn.execute("select count(*) from kept").fetchone()
    conn.execute("insert into kept values (1)")
    conn.execute("declare pages cursor for select 1")
    conn.execute("set search_path to nowhere")
    conn.execute("insert into public.effect (unit, resource) values (%s, pg_current_xact_id()::text)", [unit.id])
    conn.row_factory = psycopg.rows.dict_row  # type: ignore[assignment]
    conn.execute("set role pg_monitor")
    conn.execute("set transaction read only")
    return found, rows


@KINDS
@pytest.mark.parametrize("fails", [False, True])
def test_what_a_handler_does_to_its_session_ends_with_it(pool_url: str, kind: str, fails: bool) -> None:  # noqa: FBT001
    slot = Slot(pool_url, kind)
    seen: list[Any] = []

    def act(unit: Unit, conn: psycopg.Connection) -> None:
        seen.append(look(unit, conn))
        if fails and unit.payload % 2:
            raise KeyError

    slot.work(act)
    assert seen == [seen[0]] * len(ALL)
    assert seen[0][0][5] is None
    assert len(slot.transactions()) == 1
    assert len(slot.faults) == (10 if fails else 0)


DEFERRING = {  # whether units may share a transaction
    "parent deferrable initially deferred": True,
    "parent deferrable initially deferred, other int references parent deferrable": False,
}


@KINDS
@pytest.mark.parametrize("references", DEFERRING)
def test_what_is_deferred_is_deferred_to_the_end_of_its_unit(pool_url: str, kind: str, references: str) -> None:
    slot = Slot(pool_url, kind)
    slot.site.sql("create table parent (id int primary key)")
    slot.site.sql(f"create table child (id int references {references})")
    noting = "begin insert into noted values (current_setting('app.user')); return null; end"
    slot.site.sql("create table noted (name text)")
    slot.site.sql(f"create function audit() returns trigger language plpgsql as $$ {noting} $$")
    slot.site.sql(
        "create constraint trigger audited after insert on effect deferrable initially deferred"
        " for each row execute function audit()"
    )

    def act(unit: Unit, conn: psycopg.Connection) -> None:
        effect(unit, conn)
        conn.execute("insert into child values (%s)", [unit.payload])
        if unit.payload != ODD:
            conn.execute("insert into parent values (%s)", [unit.payload])
        conn.execute("select set_config('app.user', %s, true)", [str(unit.payload)])

    slot.work(act)
    assert (slot.effects(), list(slot.faults)) == (all_but(ODD), [ODD])
    assert sorted(int(name) for (name,) in slot.site.sql("select name from noted")) == all_but(ODD)
    assert len(slot.transactions()) == (1 if DEFERRING[references] else len(ALL) - 1)


@KINDS
def test_a_handler_that_wants_another_isolation_has_its_transaction_for_itself(pool_url: str, kind: str) -> None:
    slot, levels = Slot(pool_url, kind), set()

    def act(unit: Unit, conn: psycopg.Connection) -> None:
        conn.execute("set transaction isolation level serializable")
        levels.add(conn.execute("show transaction_isolation").fetchone())
        effect(unit, conn)

    slot.work(act)
    assert (slot.effects(), slot.left(), slot.faults) == (ALL, [], {})
    assert levels == {("serializable",)}
    assert slot.transactions() == [1] * len(ALL)
    assert slot.calls == [0, *ALL]  # for half a minute no other is tried in a savepoint


# What fails of the transaction as a whole.


def refuse_at_commit(slot: Slot, condition: str, what: str) -> None:
    """Let a commit do something where a completed unit is so; `old.payload` is its number."""
    body = f"begin if {condition} then {what} end if; return null; end"
    slot.site.sql(f"create function refuse() returns trigger language plpgsql as $$ {body} $$")
    slot.site.sql(
        "create constraint trigger refused after delete on striped.unit deferrable initially deferred"
        " for each row execute function refuse()"
    )


@KINDS
def test_a_commit_that_fails_is_the_fault_of_one_unit(pool_url: str, kind: str) -> None:
    slot = Slot(pool_url, kind)
    refuse_at_commit(slot, f"old.payload::text = '{ODD}'", "raise exception 'refused';")
    slot.work(effect)
    assert (slot.effects(), slot.left()) == (all_but(ODD), [ODD])
    assert list(slot.faults) == [ODD]
    assert "refused" in slot.faults[ODD]
    assert slot.calls == [*ALL, *ALL]


@KINDS
@pytest.mark.parametrize("sqlstate", ["40001", "40P01", "55P03"])
@pytest.mark.parametrize("where", ["handler", "commit"])
def test_a_conflict_is_nobodys_fault(pool_url: str, kind: str, sqlstate: str, where: str) -> None:
    slot = Slot(pool_url, kind)
    raising = f"raise exception 'in conflict' using errcode = '{sqlstate}';"
    if where == "commit":
        is_shared = "(select count(*) from public.effect where resource = pg_current_xact_id()::text) > 1"
        refuse_at_commit(slot, is_shared, raising)

    def act(unit: Unit, conn: psycopg.Connection) -> None:
        effect(unit, conn)
        if where == "handler" and slot.calls == list(range(ODD + 1)):
            conn.execute(f"do $$ begin {raising} end $$".encode())

    slot.work(act)
    assert (slot.effects(), slot.left(), slot.faults) == (ALL, [], {})
    assert slot.calls == [*(range(ODD + 1) if where == "handler" else ALL), *ALL]


@KINDS
def test_a_session_that_ends_is_nobodys_fault(pool_url: str, kind: str) -> None:
    slot = Slot(pool_url, kind)

    def act(unit: Unit, conn: psycopg.Connection) -> None:
        if slot.calls == list(range(ODD + 1)):
            slot.site.sql(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where application_name in ('tested', 'stripedjob')"
            )
        effect(unit, conn)

    slot.work(act)
    assert (slot.effects(), slot.left(), slot.faults) == (ALL, [], {})
    assert slot.calls == [*range(ODD + 1), *ALL]


@KINDS
def test_a_connection_that_is_lost_at_the_commit_leaves_the_verdict_to_the_database(pool_url: str, kind: str) -> None:
    slot = Slot(pool_url, kind)
    refuse_at_commit(slot, "true", "perform pg_terminate_backend(pg_backend_pid());")
    slot.work(effect)
    (outcome,) = slot.outcomes
    assert (outcome.tried, outcome.faults, outcome.recorded) == (0, (), 0)
    assert "the connection to Postgres was lost" in outcome.away
    assert (slot.effects(), slot.calls) == ([], ALL)


@KINDS
def test_of_a_lost_lease_nothing_is_left(pool_url: str, kind: str) -> None:
    slot = Slot(pool_url, kind)

    def act(unit: Unit, conn: psycopg.Connection) -> None:
        effect(unit, conn)
        if slot.calls == list(range(ODD)):
            slot.site.sql("update striped.stripe set fence = nextval('striped.fence')")

    slot.work(act)
    assert (slot.effects(), slot.left()) == ([], ALL)
    assert sum(outcome.recorded for outcome in slot.outcomes) == 0
    assert all("LeaseLostError" in reason for reason in slot.faults.values())


@KINDS
def test_a_unit_that_a_person_removed_costs_the_others_nothing(pool_url: str, kind: str) -> None:
    slot = Slot(pool_url, kind)

    def act(unit: Unit, conn: psycopg.Connection) -> None:
        effect(unit, conn)
        if slot.calls == list(range(ODD)):
            slot.site.sql("delete from striped.unit where id = %s", [slot.task.ids[ODD]])

    slot.work(act)
    assert (slot.effects(), slot.left(), list(slot.faults)) == (all_but(ODD), [], [ODD])


@KINDS
def test_where_postgres_is_away_units_stay_as_they_were(pool_url: str, kind: str) -> None:
    slot = Slot(pool_url, kind)
    slot.database = replace(slot.database, url="postgresql://127.0.0.1:1/none")
    slot.work(effect)
    (outcome,) = slot.outcomes
    assert (outcome.tried, outcome.faults, slot.calls) == (0, (), [])
    assert "cannot be reached" in outcome.away


# Where a task ends.


@KINDS
def test_where_order_is_strict_nothing_goes_past_the_first_failure(pool_url: str, kind: str) -> None:
    slot = Slot(pool_url, kind, block=True)

    def act(unit: Unit, conn: psycopg.Connection) -> None:
        effect(unit, conn)
        if unit.payload == 2:
            raise Dead("not in the way")
        if unit.payload == ODD:
            raise KeyError

    slot.work(act)
    assert slot.calls == list(range(ODD + 1))
    assert (slot.effects(), list(slot.faults), slot.tried) == ([0, 1, 3, 4, 5], [2, ODD], ODD + 1)


@KINDS
def test_what_is_done_is_committed_where_nothing_more_may_start(pool_url: str, kind: str) -> None:
    slot = Slot(pool_url, kind)

    def act(unit: Unit, conn: psycopg.Connection) -> None:
        effect(unit, conn)
        if unit.payload == ODD:
            slot.shared_state.deadline = 0

    slot.work(act)
    assert (slot.effects(), slot.tried, slot.transactions()) == (list(range(ODD + 1)), ODD + 1, [ODD + 1])


@KINDS
def test_nothing_is_said_while_the_transaction_is_open_and_one_unit_runs(pool_url: str, kind: str) -> None:
    slot = Slot(pool_url, kind)
    units: list[Unit] = []

    def act(unit: Unit, conn: psycopg.Connection) -> None:
        effect(unit, conn)
        assert [one.index for one in slot.shared_state.running()] == [unit.payload]
        assert not slot.outcomes
        unit.extend(5)
        for other in units:
            with pytest.raises(RuntimeError, match="is not at work here"):
                other.extend(5)
        units.append(unit)

    slot.work(act)
    assert (slot.effects(), slot.faults) == (ALL, {})
    assert slot.shared_state.running() == []


def test_a_forked_child_that_comes_back_leaves_the_transaction_alone(pool_url: str) -> None:
    slot = Slot(pool_url, "sync")
    children: list[int] = []

    def act(unit: Unit, conn: psycopg.Connection) -> None:
        effect(unit, conn)
        child = os.fork()
        if child == 0:
            return
        children.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    slot.work(act)
    assert (slot.effects(), slot.faults, children) == (ALL, {}, [0] * len(ALL))
