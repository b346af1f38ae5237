"""What can happen to Postgres and Valkey, by accident and by what others do there."""

from __future__ import annotations

import contextlib
import datetime as dt
import signal
import threading
import time
from typing import TYPE_CHECKING

import psycopg
from tests.faults.host_faults import Heal, nothing
from tests.faults.world import EFFECTS

from stripedjob.pool.client.owner import OwnerPool
from stripedjob.pool.errors import PoolError

if TYPE_CHECKING:
    import random

    from tests.faults.world import World

AWAY_SECONDS = (0.2, 1.5)
TERMINATE = """
select pg_terminate_backend(pid) from (
    select pid from pg_stat_activity
    where datname = %s and pid <> pg_backend_pid() order by random() limit %s) victim"""
HANGING = "select 'scheduled', '{}'::json from pg_sleep(%s)"
HANG_SECONDS = 6.0


def terminate(world: World, rng: random.Random) -> Heal | None:
    """End some sessions at the server."""
    with contextlib.suppress(psycopg.OperationalError):
        world.servers.postgres.ask(TERMINATE, (world.plan.strategy.lower(), rng.randint(1, 4)))
        return Heal(0, nothing)
    return None


def postgres_fast(world: World, rng: random.Random) -> Heal:
    return _restart(world, rng, signal.SIGINT)


def postgres_immediate(world: World, rng: random.Random) -> Heal:
    return _restart(world, rng, signal.SIGQUIT)


def postgres_kill(world: World, rng: random.Random) -> Heal:
    return _restart(world, rng, signal.SIGKILL)


def read_only(world: World, rng: random.Random) -> Heal:
    """Have all sessions that do not say otherwise read only."""
    postgres = world.servers.postgres
    postgres.ask("alter system set default_transaction_read_only = on")
    postgres.ask("select pg_reload_conf()")

    def heal() -> None:
        postgres.ask("alter system reset default_transaction_read_only")
        postgres.ask("select pg_reload_conf()")

    return Heal(rng.uniform(1, 4), heal)


def standby(world: World, rng: random.Random) -> Heal:
    """Have a standby behind the address for a while: it takes connections and refuses to write."""
    world.servers.postgres.become_standby()
    return Heal(rng.uniform(1, 3), world.servers.postgres.promote)


def snapshot(world: World, rng: random.Random) -> Heal | None:
    """Hold a snapshot open, as a long report does."""
    try:
        conn = world.connection()
        conn.execute("begin isolation level repeatable read")
        conn.execute("select count(*) from striped.stripe")
    except psycopg.OperationalError:
        return None
    return Heal(rng.uniform(3, 10), conn.close)


def schedule_hangs(world: World, _dice: random.Random) -> Heal:
    """Fire a schedule whose query hangs; whether it is cut or ends, it may stop nobody."""

    def fire() -> None:
        with contextlib.suppress(PoolError), OwnerPool.open(world.url) as pool:
            job = world.job_ids[EFFECTS]
            now = dt.datetime.now(dt.UTC)
            pool.fire(job, "hanging", now, HANGING.replace("%s", "0"))  # the first one only begins it
            pool.fire(job, "hanging", now + dt.timedelta(seconds=1), HANGING % HANG_SECONDS)

    thread = threading.Thread(target=fire, daemon=True)
    thread.start()
    return Heal(HANG_SECONDS + 1, thread.join)


def valkey_kill(world: World, rng: random.Random) -> Heal:
    return _restart_valkey(world, rng, kill=True)


def valkey_restart(world: World, rng: random.Random) -> Heal:
    return _restart_valkey(world, rng, kill=False)


def valkey_flush(world: World, _dice: random.Random) -> Heal:
    with world.servers.valkey.client() as client:
        client.flushall()
    return Heal(0, nothing)


def valkey_failover(world: World, _dice: random.Random) -> Heal:
    """Have an empty one behind the address."""
    port = world.servers.fail_over().port

    def move() -> None:
        for host in world.hosts:
            host.valkey.target = port
            host.valkey.cut()

    world.network.do(move)
    return Heal(0, nothing)


def _restart(world: World, rng: random.Random, number: signal.Signals) -> Heal:
    world.servers.postgres.end(number)
    time.sleep(rng.uniform(*AWAY_SECONDS))
    world.servers.postgres.start()
    return Heal(0, nothing)


def _restart_valkey(world: World, rng: random.Random, *, kill: bool) -> Heal:
    valkey = world.servers.valkey
    valkey.kill() if kill else valkey.stop()
    return Heal(rng.uniform(*AWAY_SECONDS), valkey.start)


SERVER_FAULTS = {
    fault.__name__: fault
    for fault in (
        *(terminate, postgres_fast, postgres_immediate, postgres_kill, read_only, standby, snapshot, schedule_hangs),
        *(valkey_kill, valkey_restart, valkey_flush, valkey_failover),
    )
}
