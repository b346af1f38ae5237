"""Handlers in the pool's own transaction: what fails on the way to them and back is no try of their units."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from contextlib import AsyncExitStack, ExitStack, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from tests.support import hostile
from tests.support.blocking import Blocking
from tests.support.engines import running
from tests.support.poolers import pgbouncer_in
from tests.support.worker_env import PATIENCE_SECONDS, Site

from stripedjob.pool.effects import steps
from stripedjob.pool.effects.handler_session import HandlerSession, LeaseLostError, TransactionEndedError
from stripedjob.pool.effects.transaction import CONFLICTS_MAX, alone
from stripedjob.pool.errors import TryLostError
from stripedjob.pool.types import Database
from stripedjob.runtime.handlers.python import is_coroutine_function
from stripedjob.runtime.handlers.results import Finishing, NotRunError, finishing_async
from stripedjob.runtime.worker.decide import RetryPolicy
from stripedjob.unit import Unit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.engines import RestartablePostgres

    Work = Callable[[Unit, psycopg.Connection], Any]

pytestmark = pytest.mark.migrated


KINDS = pytest.mark.parametrize("kind", ["sync", "async"])


class Place:
    """One unit that is leased, and a way to work on it in a transaction of its own, as an executor's slot does."""

    def __init__(self, url: str, kind: str, pool_url: str = "") -> None:
        self.site = Site(url, pool_url=pool_url)
        self.kind, self.calls = kind, 0
        self.site.fill(3, 1)
        worker = self.site.sql("select striped.register(%s, 'w')", [self.site.job_id])[0][0]
        self.site.sql("select striped.upkeep(%s)", [self.site.job_id])
        (claimed,) = self.site.sql("select resources, fences, ids from striped.claim(%s, 0, 1, 3, 1000)", [worker])
        (resource,), (fence,), ids = claimed
        self.units = [Unit(one, resource, fence, 1, "null", worker_id=worker) for one in ids]
        self.database = Database(self.site.pool_url, "striped", self.site.job_id, "tested")
        self._loop = asyncio.new_event_loop() if kind == "async" else None
        self._session: HandlerSession | None = None

    def work(self, function: Work) -> None:
        """Work on the next unit with this handler, given as a plain function of a plain connection."""
        self._act = function
        if self._session is None:
            self._session = self._make()
        self._go(alone(self._session, self.units[0]))
        self.units = self.units[1:]

    def _go(self, way: steps.Steps[None]) -> None:
        if self._loop is None:
            steps.run(way)
        else:
            self._loop.run_until_complete(steps.run_async(way))

    def _make(self) -> HandlerSession:
        def handle(unit: Unit, conn: psycopg.Connection) -> None:
            self.calls += 1
            self._act(unit, conn)

        async def handle_async(unit: Unit, conn: psycopg.AsyncConnection) -> None:
            self.calls += 1
            await asyncio.to_thread(self._act, unit, Blocking(conn, asyncio.get_running_loop()))  # type: ignore[arg-type]

        is_async = self._loop is not None
        return HandlerSession(handle_async if is_async else handle, self.database, is_async=is_async)

    def close(self) -> None:
        if self._session is not None:
            self._go(self._session.close())
        if self._loop is not None:
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()

    def left(self) -> int:
        return int(self.site.status()["pending"])


@pytest.fixture
def place(fresh_database: str, pool_url: str, kind: str) -> Iterator[Place]:
    made = Place(fresh_database, kind, pool_url)
    yield made
    made.close()


def effect(unit: Unit, conn: psycopg.Connection) -> None:
    conn.execute("insert into effect (unit) values (%s)", [unit.id])


def effects(place: Place) -> int:
    return int(place.site.sql("select count(*) from effect")[0][0])


def end_sessions(place: Place) -> None:
    place.site.sql(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name in ('tested', 'stripedjob')"
    )


@KINDS
def test_sessions_bear_the_name_they_were_given(place: Place) -> None:
    """But through a pooler: who ends the sessions of that name would end those of others."""
    place.work(effect)
    is_direct = place.database.url == place.site.url
    found = place.site.sql("select count(*) from pg_stat_activity where application_name = 'tested'")
    assert found == [(1 if is_direct else 0,)]


@KINDS
def test_a_connection_that_broke_while_nothing_ran_is_made_again(place: Place) -> None:
    place.work(effect)
    end_sessions(place)
    place.work(effect)
    assert (place.calls, effects(place)) == (2, 2)


@KINDS
def test_a_handler_is_not_called_where_there_is_no_connection(place: Place) -> None:
    place.database = Database("postgresql://127.0.0.1:1/none", "striped", place.site.job_id)
    with pytest.raises(TryLostError, match="cannot be reached"):
        place.work(effect)
    assert place.calls == 0


@KINDS
@pytest.mark.parametrize("way", ["direct", "pooled"])
def test_a_handler_is_not_called_on_a_stand_by(
    restartable_postgres: RestartablePostgres, tmp_path: Path, kind: str, way: str
) -> None:
    with ExitStack() as stack:
        url = ""
        if way == "pooled":
            pgbouncer = pgbouncer_in(tmp_path / "pgbouncer", restartable_postgres.url)
            stack.enter_context(running(pgbouncer))
            url = pgbouncer.url
        place = stack.enter_context(closing(Place(restartable_postgres.url, kind, url)))
        place.work(effect)
        restartable_postgres.stop()
        restartable_postgres.start_as_standby()
        with pytest.raises(TryLostError, match="read-only"):
            place.work(effect)
        assert place.calls == 1
        place.site.sql("select pg_promote()")
        place.work(effect)
        assert effects(place) == 2


@KINDS
def test_a_connection_lost_after_the_handler_leaves_the_units_as_they_were(place: Place) -> None:
    def act(unit: Unit, conn: psycopg.Connection) -> None:
        effect(unit, conn)
        end_sessions(place)

    with pytest.raises(TryLostError, match="the connection to Postgres was lost"):
        place.work(act)
    assert effects(place) == 0
    place.work(effect)
    assert effects(place) == 1


@KINDS
@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("select pg_terminate_backend(pg_backend_pid())", psycopg.OperationalError),
        ("select 1/0", psycopg.errors.DivisionByZero),
        ("swallow", TransactionEndedError),
        ("close", TransactionEndedError),
        ("commit", TransactionEndedError),
        ("raise", KeyError),
        ("roll back", psycopg.Rollback),
        # Once in a hundred times, what the server said at the end of its session does not arrive: then nobody knows.
        ("idle", (psycopg.errors.IdleInTransactionSessionTimeout, TryLostError)),
        ("deferred", psycopg.errors.ForeignKeyViolation),
    ],
)
def test_what_the_handler_did_to_its_transaction_is_its_own_failure(
    place: Place, how: str, error: type[BaseException] | tuple[type[BaseException], ...]
) -> None:
    place.site.sql("create table parent (id int primary key)")
    place.site.sql("create table child (id int references parent deferrable initially deferred)")

    def act(unit: Unit, conn: psycopg.Connection) -> None:
        effect(unit, conn)
        match how:
            case "close":
                conn.close()
            case "commit":
                conn.execute("commit")
            case "raise":
                raise KeyError
            case "roll back":
                raise psycopg.Rollback
            case "swallow":
                with suppress(psycopg.OperationalError):
                    conn.execute("select pg_terminate_backend(pg_backend_pid())")
            case "idle":
                conn.execute("set local idle_in_transaction_session_timeout to 1")
                gone = "select count(*) from pg_stat_activity where application_name = 'tested'"
                while place.site.sql(gone) != [(0,)]:
                    threading.Event().wait(0.01)
            case "deferred":
                conn.execute("insert into child values (7)")
            case query:
                conn.execute(query)

    with pytest.raises(error):
        place.work(act)
    assert effects(place) == (1 if how == "commit" else 0)
    place.work(effect)  # the slot goes on


@KINDS
@pytest.mark.parametrize("sqlstate", ["40001", "40P01", "55P03"])
@pytest.mark.parametrize("where", ["handler", "commit"])
def test_conflicts_with_other_transactions_are_no_try(place: Place, sqlstate: str, where: str) -> None:
    raising = f"begin raise exception 'in conflict' using errcode = '{sqlstate}'; end"
    place.site.sql(f"create function conflict() returns trigger language plpgsql as $$ {raising} $$")
    place.site.sql("create table disputed (n int)")
    place.site.sql(
        "create constraint trigger disputed after insert on disputed deferrable initially deferred"
        " for each row execute function conflict()"
    )

    def act(unit: Unit, conn: psycopg.Connection) -> None:
        effect(unit, conn)
        if place.calls <= CONFLICTS_MAX:
            conn.execute("insert into disputed values (1)")
            if where == "handler":
                conn.execute("set constraints all immediate")

    place.work(act)
    assert (place.calls, effects(place)) == (CONFLICTS_MAX + 1, 1)


@KINDS
def test_a_conflict_without_end_becomes_a_failure(place: Place) -> None:
    def act(_unit: Unit, conn: psycopg.Connection) -> None:
        conn.execute("do $$ begin raise exception 'in conflict' using errcode = '40001'; end $$")

    with pytest.raises(psycopg.errors.SerializationFailure):
        place.work(act)
    assert place.calls == CONFLICTS_MAX + 1


@KINDS
def test_a_connection_that_ends_without_a_word_is_no_try(place: Place) -> None:
    """As where a network or a pooler fails; now and then the last words of a server do not arrive, either."""

    def act(unit: Unit, conn: psycopg.Connection) -> None:
        effect(unit, conn)
        if place.calls <= CONFLICTS_MAX:
            with closing(socket.socket(fileno=os.dup(conn.fileno()))) as connection:
                connection.shutdown(socket.SHUT_RDWR)
            effect(unit, conn)

    place.work(act)
    assert (place.calls, effects(place)) == (CONFLICTS_MAX + 1, 1)


@KINDS
def test_a_conflict_in_another_database_is_the_handlers_own(place: Place) -> None:
    def act(_unit: Unit, _conn: psycopg.Connection) -> None:
        raise psycopg.errors.SerializationFailure

    with pytest.raises(psycopg.errors.SerializationFailure):
        place.work(act)
    assert place.calls == 1


SETTINGS = """select current_user, current_setting('search_path'), current_setting('statement_timeout'),
    nullif(current_setting('app.user', true), '')"""


@KINDS
def test_what_a_handler_sets_is_gone_for_the_next_unit(place: Place) -> None:
    found: list[Any] = []

    def look(_unit: Unit, conn: psycopg.Connection) -> None:
        found.append(conn.execute(SETTINGS).fetchone())

    def change(unit: Unit, conn: psycopg.Connection) -> None:
        look(unit, conn)
        conn.row_factory = psycopg.rows.dict_row  # type: ignore[assignment]
        conn.execute("set statement_timeout to 1234")
        conn.execute("set search_path to nowhere")
        conn.execute("select set_config('app.user', 'mary', false)")
        conn.execute("set role pg_monitor")

    place.work(change)
    place.work(look)
    assert found[0] == found[1]
    assert found[0][3] is None


@KINDS
def test_what_is_deferred_to_the_end_sees_what_the_handler_set(place: Place) -> None:
    noting = "begin insert into effect (resource) values (current_setting('app.user')); return null; end"
    place.site.sql(f"create function audit() returns trigger language plpgsql as $$ {noting} $$")
    place.site.sql("create table audited (n int)")
    place.site.sql(
        "create constraint trigger audited after insert on audited deferrable initially deferred"
        " for each row execute function audit()"
    )

    def act(_unit: Unit, conn: psycopg.Connection) -> None:
        conn.execute("select set_config('app.user', 'mary', true)")
        conn.execute("insert into audited values (1)")

    place.work(act)
    assert place.site.sql("select resource from effect") == [("mary",)]


@KINDS
def test_a_lost_lease_is_no_conflict(place: Place) -> None:
    place.site.sql("update striped.stripe set fence = nextval('striped.fence')")
    with pytest.raises(LeaseLostError):
        place.work(effect)
    assert effects(place) == 0


@pytest.mark.parametrize("name", [*hostile.RUN, *hostile.NOT_RUN])
def test_what_has_not_run_is_never_committed(
    fresh_database: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, notes = Place(fresh_database, "sync"), tmp_path / "notes"
    notes.touch()
    monkeypatch.setenv(hostile.TRACE_FILE, str(notes))
    function: Any = getattr(hostile, name)

    async def work_async() -> None:
        session = HandlerSession(finishing_async(function), place.database, is_async=True)
        try:
            await steps.run_async(alone(session, place.units[0]))
        finally:
            await steps.run_async(session.close())

    def work() -> None:
        with closing(Finishing(function)) as finishing:
            session = HandlerSession(finishing, place.database, is_async=False)
            try:
                steps.run(alone(session, place.units[0]))
            finally:
                steps.run(session.close())

    try:
        asyncio.run(work_async()) if is_coroutine_function(function) else work()
    except NotRunError:
        assert name in hostile.NOT_RUN
    has_run = notes.read_text() == f"ran {place.units[0].id}\n"
    assert (has_run, place.left()) == ((True, 2) if name in hostile.RUN else (False, 3))


@KINDS
def test_a_session_that_the_server_ends_is_no_try(place: Place) -> None:
    def act(unit: Unit, conn: psycopg.Connection) -> None:
        if place.calls == 1:
            end_sessions(place)
        effect(unit, conn)

    place.work(act)
    assert (place.calls, effects(place)) == (2, 1)


def test_a_postgres_restart_is_no_try_of_a_unit(restartable_postgres: RestartablePostgres) -> None:
    """With one attempt, any blame would show: a unit would be dead."""
    site = Site(restartable_postgres.url, policy=RetryPolicy(attempts_max=1, on_failure="Dead"))
    site.fill(200, 20, "0.01")

    async def scene() -> None:
        async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE_SECONDS):
            worker = await site.worker(stack, site.handler("record_after", database=site.database))
            run = asyncio.create_task(worker.run())
            for done in (20, 60):
                while site.status()["total_done"] < done:
                    await asyncio.sleep(0.02)
                restartable_postgres.stop()
                restartable_postgres.start()
            await asyncio.gather(run, drained_when_empty(site, worker))

    asyncio.run(scene())
    status = site.status()
    assert (status["total_done"], status["total_dead"], status["pending"]) == (200, 0, 0)
    assert site.sql("select count(*), count(distinct unit) from effect") == [(200, 200)]


async def drained_when_empty(site: Site, worker: Any) -> None:
    while site.status()["pending"] + site.status()["in_flight"]:
        await asyncio.sleep(0.05)
    worker.drain()
