"""The operator's databases and lock backends: one that hangs costs its own StripedJobs their numbers, and no others."""

from __future__ import annotations

import asyncio
import datetime as dt
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from tests.support.factories import job
from tests.support.hostile_servers import SILENCES, Gate, black_hole, hung_ports, listening
from tests.support.reconciling import Reconciling, until

import stripedjob
from stripedjob import NewUnit
from stripedjob.pool import connection
from stripedjob.pool.client import bounded
from stripedjob.schedule import schedule_key
from stripedjob.settings import job_settings
from stripedjob.spec.model import Schedule
from stripedjob_operator import databases as databases_module
from stripedjob_operator import longcalls
from stripedjob_operator.databases import Database, Databases
from stripedjob_operator.lockpings import LockPings
from stripedjob_operator.observed import LOCK_PENDING, Key
from stripedjob_operator.resolver import Loop

HUNG = 40
TICKS_SECONDS = 60.0  # some ticks on a machine that has other things to do
EVERY_MINUTE = {"cron": "* * * * *"}


def hung_url(port: int) -> str:
    return f"postgresql://app:pw@127.0.0.1:{port}/db"


def enqueue(url: str, name: str, namespace: str = "shop") -> None:
    with psycopg.connect(url) as conn:
        stripedjob.enqueue(conn, name, NewUnit(resource="r"), namespace=namespace)


@dataclass
class Asked:
    """Databases, and StripedJobs that are known to want something of them."""

    databases: Databases
    told: set[Key] = field(default_factory=set)

    def want(self, name: str, url: str, **spec: Any) -> Database:
        key = ("shop", name)
        found = self.databases.database(key, url, "striped")
        found.want(key, job_settings(job(name, **spec)))
        return found

    async def ready(self, name: str, url: str) -> Database:
        found = self.want(name, url)
        await until(lambda: ("shop", name) in found.jobs, TICKS_SECONDS)
        return found


@asynccontextmanager
async def asked() -> AsyncIterator[Asked]:
    told: set[Key] = set()
    async with Databases(told.add) as databases:
        yield Asked(databases, told)


def pending(database: Database, name: str) -> int:
    return database.jobs["shop", name].status.pending


def has_pending(database: Database, name: str, units: int) -> bool:
    return pending(database, name) == units


async def test_forty_hung_databases_cost_the_next_one_nothing(fresh_database: str) -> None:
    async with hung_ports(HUNG) as ports, asked() as site:
        hung = [site.want(f"hung{port}", hung_url(port)) for port in ports]
        victim = await site.ready("victim", fresh_database)
        for number in range(1, 4):
            await asyncio.to_thread(enqueue, fresh_database, "victim")
            await until(partial(has_pending, victim, "victim", number), TICKS_SECONDS)
        assert not any(one.jobs for one in hung)
        assert sum(thread.name.startswith("pool") for thread in threading.enumerate()) <= HUNG + 1


async def test_work_for_a_job_without_workers_is_heard_of_before_the_next_tick(
    fresh_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases_module, "TICK_SECONDS", 3600.0)  # the first one begins before there is a job
    async with asked() as site:
        victim = await site.ready("victim", fresh_database)
        for number in range(1, 4):
            await asyncio.to_thread(enqueue, fresh_database, "victim")
            await until(partial(has_pending, victim, "victim", number), TICKS_SECONDS)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have deadlines that a test can wait for."""
    monkeypatch.setattr(connection, "CALL_SECONDS_MAX", 1.0)
    monkeypatch.setattr(bounded, "GRACE_SECONDS", 0.5)
    monkeypatch.setattr(databases_module, "CALL_SECONDS_MAX", 1.0)
    monkeypatch.setattr(databases_module, "MIGRATE_SECONDS_MAX", 1.0)
    monkeypatch.setattr(databases_module, "RETRY_SECONDS", 0.2)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("kind", [*SILENCES, "black hole"])
async def test_each_kind_of_silence_is_said(kind: str) -> None:
    server = listening(SILENCES[kind]) if kind in SILENCES else black_hole()
    async with server as port, asked() as site:
        database = site.want("hung", hung_url(port))
        await until(lambda: database.problem)
        assert database.problem is not None
        assert database.problem.reason == "PoolUnreachable"
        assert f"127.0.0.1:{port}" in database.problem.message
        assert "did not answer in time" in database.problem.message
        assert ("shop", "hung") in site.told


@asynccontextmanager
async def gated(url: str) -> AsyncIterator[tuple[Gate, str]]:
    """Have a gate before a real Postgres, open; yields it with the URL through it."""
    with psycopg.connect(url) as conn:
        gate = Gate(conn.info.host, conn.info.port)
        user, name = conn.info.user, conn.info.dbname
        password = quote(conn.info.password)
    gate.opened.set()
    async with listening(gate.carry) as port:
        yield gate, f"postgresql://{user}:{password}@127.0.0.1:{port}/{name}?sslmode=disable"


@pytest.mark.usefixtures("short")
async def test_a_server_that_falls_silent_and_comes_back_heals(fresh_database: str) -> None:
    async with gated(fresh_database) as (gate, url), asked() as site:
        database = await site.ready("victim", url)
        gate.opened.clear()
        await until(lambda: database.problem)
        gate.opened.set()
        await until(lambda: not database.problem)
        await asyncio.to_thread(enqueue, fresh_database, "victim")
        await until(lambda: pending(database, "victim") == 1)


async def test_a_job_whose_row_somebody_removed_is_made_again(fresh_database: str) -> None:
    async with asked() as site:
        database = await site.ready("victim", fresh_database)
        job_id = database.jobs["shop", "victim"].job_id
        with psycopg.connect(fresh_database) as conn:
            conn.execute("delete from striped.job")
        await until(lambda: ("shop", "victim") in database.jobs and database.jobs["shop", "victim"].job_id != job_id)


async def test_the_connection_ends_with_the_last_user(fresh_database: str) -> None:
    async with asked() as site:
        await site.ready("one", fresh_database)
        await site.ready("two", fresh_database)
        site.databases.leave(("shop", "one"))
        assert await asyncio.to_thread(sessions, fresh_database) == 1
        site.databases.leave(("shop", "two"))
        await until(lambda: sessions(fresh_database) == 0)


def sessions(url: str, state: str = "%") -> int:
    query = """select count(*) from pg_stat_activity
        where datname = current_database() and application_name = 'stripedjob' and state like %s"""
    with psycopg.connect(url) as conn:
        row = conn.execute(query, [state]).fetchone()
    assert row
    return int(row[0])


# Schedules


def begun_an_hour_ago(url: str, name: str) -> None:
    """Have a schedule that was begun, so that its period is due."""
    key = schedule_key(Schedule.model_validate(EVERY_MINUTE))
    with psycopg.connect(url) as conn:
        conn.execute(
            "update striped.turn set detail = %s, at = %s from striped.job j"
            " where kind = 'schedule' and j.id = job_id and job_type = %s",
            [key, dt.datetime.now(dt.UTC) - dt.timedelta(hours=1), name],
        )


def follow(database: Database, name: str, sql: str) -> Callable[[], Any]:
    """Have a schedule followed; gives what asks for its problem."""
    key = ("shop", name)
    schedule = Schedule.model_validate(EVERY_MINUTE | {"enqueue": {"sql": sql}})
    database.long.schedule(key, schedule, database.jobs[key].job_id)
    return lambda: database.long.clocks[key].problem


async def test_a_slow_schedule_stops_neither_numbers_nor_the_limit_of_its_database(fresh_database: str) -> None:
    async with asked() as site:
        database = await site.ready("slow", fresh_database)
        await site.ready("other", fresh_database)
        await asyncio.to_thread(begun_an_hour_ago, fresh_database, "slow")
        follow(database, "slow", "select 'r', null from (select pg_sleep(3600)) x")
        await until(lambda: sessions(fresh_database, "active") == 1)
        await asyncio.to_thread(enqueue, fresh_database, "other")
        await until(lambda: pending(database, "other") == 1, TICKS_SECONDS)
        site.want("other", fresh_database, scheduleLimit=7)
        await until(lambda: database.jobs["shop", "other"].settings.schedule_limit == 7, TICKS_SECONDS)
        assert sessions(fresh_database, "active") == 1, "the query runs on"


async def test_a_schedule_beyond_its_deadline_is_ended_and_said_and_lets_others_go_on(
    fresh_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(longcalls, "SCHEDULE_SECONDS_MAX", 1.0)
    async with asked() as site:
        database = await site.ready("slow", fresh_database)
        await site.ready("wrong", fresh_database)
        await site.ready("good", fresh_database)
        for name in ("slow", "wrong", "good"):
            await asyncio.to_thread(begun_an_hour_ago, fresh_database, name)
        slow = follow(database, "slow", "select 'r', null from (select pg_sleep(3600)) x")
        wrong = follow(database, "wrong", "select nothing")
        follow(database, "good", "select 'r' || n, null from generate_series(1, 2) n")
        await until(lambda: database.long.clocks["shop", "good"].scheduled_at)
        await until(slow)
        await until(wrong)
        assert slow().message == "spec.schedule.enqueue.sql: it took longer than 1 s"
        assert wrong().message == 'spec.schedule.enqueue.sql: column "nothing" does not exist (SQLSTATE 42703)'
        assert {slow().reason, wrong().reason} == {"ScheduleFailed"}
        await until(lambda: sessions(fresh_database, "active") == 0)
        await until(lambda: pending(database, "good") == 2)
        assert database.problem is None


async def test_a_locked_row_of_one_job_keeps_no_other_from_its_pool(
    fresh_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases_module, "CALL_SECONDS_MAX", 1.0)
    monkeypatch.setattr(databases_module, "RETRY_SECONDS", 0.2)
    async with asked() as site:
        database = await site.ready("locked", fresh_database)
        with psycopg.connect(fresh_database) as conn:
            conn.execute("select from striped.job for update")
            site.want("locked", fresh_database, scheduleLimit=7)
            await until(lambda: database.problem_of(("shop", "locked")))
            await site.ready("other", fresh_database)
            assert database.problem is None
        await until(lambda: database.jobs["shop", "locked"].settings.schedule_limit == 7)
        assert database.problem_of(("shop", "locked")) is None


async def test_a_period_that_another_may_be_at_is_asked_for_until_that_has_ended(
    fresh_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    minutes: list[float] = []

    def next_minute() -> float:
        minutes.append(time.monotonic() + 0.2)
        return minutes[-1]

    monkeypatch.setattr(longcalls, "SCHEDULE_SECONDS_MAX", 1.0)
    monkeypatch.setattr(longcalls, "_next_minute", next_minute)
    async with asked() as site:
        database = await site.ready("job", fresh_database)
        follow(database, "job", "select 'r', null")  # which is new: it begins, and nobody is to enqueue this period
        clock = database.long.clocks["shop", "job"]
        await until(lambda: clock.doubted)
        assert clock.fired is None
        await until(lambda: clock.fired)
        assert len(minutes) > 1  # it was asked for again
        assert pending(database, "job") == 0


async def test_a_job_is_cleared_beside_a_slow_schedule_of_its_database(fresh_database: str) -> None:
    async with asked() as site:
        database = await site.ready("gone", fresh_database)
        await asyncio.to_thread(enqueue, fresh_database, "gone")
        database.want(("shop", "gone"), None)
        clearing = database.long.clear(("shop", "gone"), job_settings(job("gone")))
        await until(lambda: clearing.is_done)
        await until(lambda: pending(database, "gone") == 0)


# Reconciles: the whole of it but the API server


async def test_reconciles_go_on_beside_hung_databases(fresh_database: str, fresh_valkey: str) -> None:
    async with hung_ports(HUNG) as ports, Reconciling().running() as site:
        for port in ports:
            urls = {"postgres": hung_url(port), "redis": f"redis://127.0.0.1:{port}"}
            site.apply(f"hung{port}", urls, minWorkers=1, schedule=EVERY_MINUTE)
        site.apply("victim", {"postgres": fresh_database, "redis": fresh_valkey})
        await until(lambda: site.condition("victim", "PoolReachable")["reason"] == "Reachable", TICKS_SECONDS)
        await asyncio.to_thread(enqueue, fresh_database, "victim")
        await until(lambda: site.replicas("victim") == 1, TICKS_SECONDS)
        await until(lambda: site.condition("victim", "LockReachable")["reason"] == "Reachable", TICKS_SECONDS)
        for port in ports:
            assert not site.replicas(f"hung{port}"), "no worker before the job is in its pool"


async def test_a_breaker_that_opens_and_closes_is_a_condition_with_events(fresh_database: str) -> None:
    opens = """update striped.job set alike = 20, alike_kind = 'HTTP 503', openings = 1, opened_at = clock_timestamp(),
        open_until = clock_timestamp() + interval '1 h'"""
    async with Reconciling().running() as site:
        site.apply("job", {"postgres": fresh_database}, retry={"circuitBreaker": {"failures": 20}})
        await until(lambda: site.condition("job", "CircuitBreaker").get("reason") == "CircuitClosed", TICKS_SECONDS)
        with psycopg.connect(fresh_database, autocommit=True) as conn:
            settings = b"select breaker_failures, backoff_seconds, backoff_seconds_max from striped.job"
            assert conn.execute(settings).fetchone() == (20, 5, 600)
            conn.execute(opens.encode())
            await until(lambda: site.condition("job", "CircuitBreaker")["status"] == "True", TICKS_SECONDS)
            assert "after 20 failures alike: HTTP 503" in site.condition("job", "CircuitBreaker")["message"]
            conn.execute("select striped.resume_job(id) from striped.job")
            await until(lambda: site.condition("job", "CircuitBreaker")["status"] == "False", TICKS_SECONDS)
        await until(lambda: len(site.cluster.events) == 2)  # an Event follows the status
        told = [(event["type"], event["reason"]) for event in site.cluster.events]
        assert told == [("Warning", "CircuitOpen"), ("Normal", "CircuitClosed")]


async def test_a_deleted_job_of_a_hung_database_goes_in_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stripedjob_operator.cleanup.CLEANUP_SECONDS_MAX", 1.0)
    monkeypatch.setattr("stripedjob_operator.cleanup.CLEANUP_RETRY_SECONDS", 0.2)
    async with listening(SILENCES["takes the login"]) as port, Reconciling().running() as site:
        pool = {"secretRef": {"name": "gone", "key": "postgres"}, "deletionPolicy": "Delete"}
        site.apply("gone", {"postgres": hung_url(port)}, pool=pool)
        path = "/apis/striped.dev/v1alpha1/namespaces/shop/stripedjobs/gone"
        await until(lambda: site.cluster.objects[path]["metadata"].get("finalizers"))
        raw = site.cluster.objects[path]
        raw["metadata"]["deletionTimestamp"] = dt.datetime.now(dt.UTC).isoformat()
        site.observed.job_seen(site.cluster.keep(path, raw))
        site.queue.add(("shop", "gone"))
        await until(lambda: site.cluster.objects[path]["metadata"]["finalizers"] == [])
        assert [event["reason"] for event in site.cluster.events] == ["CleanupFailed"]


async def test_idle_workers_are_marked_before_there_are_fewer(fresh_database: str) -> None:
    async with Reconciling().running() as site:
        site.apply("job", {"postgres": fresh_database}, minWorkers=3, scheduleLimit=3)
        await until(lambda: site.replicas("job") == 3)
        for name in ("a", "b", "c"):
            path = f"/api/v1/namespaces/shop/pods/{name}"
            site.observed.pod_seen(("shop", "job"), site.cluster.keep(path, {"metadata": {"name": name}}))
        with psycopg.connect(fresh_database) as conn:
            conn.execute(
                """insert into striped.worker (id, job_id, name, working, expires_at)
                select 1, id, 'b', true, now() + interval '1 hour' from striped.job"""
            )
        site.apply(
            "job", {"postgres": fresh_database}, minWorkers=1, scheduleLimit=3, scaling={"scaleDownDelaySeconds": 0}
        )
        await until(lambda: site.replicas("job") == 1)
        costs = {
            name: site.cluster.objects[f"/api/v1/namespaces/shop/pods/{name}"]["metadata"].get("annotations")
            for name in ("a", "b", "c")
        }
        idle = {"controller.kubernetes.io/pod-deletion-cost": "-1000"}
        assert costs == {"a": idle, "b": None, "c": idle}


# Lock backends and names


async def test_forty_hung_lock_backends_delay_no_other(fresh_valkey: str) -> None:
    async with hung_ports(HUNG) as ports, LockPings(lambda _: None) as pings:
        for port in ports:
            pings.problem(("shop", str(port)), job(str(port)), f"redis://127.0.0.1:{port}")
        await until(lambda: pings.problem(("shop", "victim"), job("victim"), fresh_valkey) is None, TICKS_SECONDS)
        await until(
            lambda: all(
                (found := pings.problem(("shop", str(port)), job(str(port)), f"redis://127.0.0.1:{port}"))
                and found != LOCK_PENDING
                and f"127.0.0.1:{port}" in found.message
                for port in ports
            )
        )


@pytest.fixture
def silent_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """Have name servers that do not answer for names that end with .silent; gives the names that were asked for."""
    asked_for: list[str] = []
    over, real = threading.Event(), socket.getaddrinfo

    def getaddrinfo(host: Any, *rest: Any, **named: Any) -> Any:
        if str(host).endswith(".silent"):
            asked_for.append(host)
            over.wait()
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return real(host, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield asked_for  # type: ignore[misc]
    over.set()


@pytest.mark.usefixtures("short")
def test_names_that_nobody_resolves_keep_no_other_name_waiting(
    fresh_database: str, fresh_valkey: str, silent_names: list[str]
) -> None:
    async def scenario() -> None:
        async with asked() as site, LockPings(lambda _: None) as pings, gated(fresh_database) as (_, url):
            hung = [site.want(f"hung{n}", f"postgresql://app:pw@n{n}.silent/db") for n in range(HUNG)]
            for n in range(HUNG):
                pings.problem(("shop", str(n)), job(str(n)), f"redis://n{n}.silent:6379")
            await until(lambda: all(one.problem for one in hung))
            by_name = url.replace("127.0.0.1", "localhost")
            await site.ready("victim", by_name)
            redis = fresh_valkey.replace("127.0.0.1", "localhost")
            await until(lambda: pings.problem(("shop", "victim"), job("victim"), redis) is None)
            await until(lambda: hung[0].problem and len(silent_names) >= 2 * HUNG)
            assert len(silent_names) == len(set(silent_names)) * 2, "a name is asked for once, whoever waits for it"

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(scenario())
