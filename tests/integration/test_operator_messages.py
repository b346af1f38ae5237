"""What the operator says of a URL that does not work: our own words, whatever is in the Secret or listens there.

Whoever may view a StripedJob, its Events or the operator's log need not be one who may read its Secret.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator

import psycopg
import pytest
from pythonjsonlogger.json import JsonFormatter
from tests.support.hostile_servers import banner, listening, message
from tests.support.reconciling import Reconciling, until

# Neither piece of the password may be seen, whichever part of the URL a parser takes it for.
HEAD, TAIL = "hunter2", "swordfish"
DEAD = "127.0.0.1:1"
SECRETS = (HEAD, TAIL, "leaked")


@pytest.fixture
def log() -> Iterator[list[str]]:
    """Have all that is logged, as it would be written."""
    lines: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler = Kept()
    handler.setFormatter(JsonFormatter("%(message)s %(levelname)s"))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield lines
    root.setLevel(level)
    root.removeHandler(handler)


POSTGRES = {
    "SQLAlchemy's form": (f"postgresql+asyncpg://app:{HEAD}{TAIL}@h/db", "PoolConfig"),
    "SQLAlchemy's form with an option": (f"postgresql+psycopg://app:{HEAD}{TAIL}@h/db?sslmode=require", "PoolConfig"),
    "quotes": (f'"postgresql://app:{HEAD}{TAIL}@h/db"', "PoolConfig"),
    "no colon": (f"postgres//app:{HEAD}{TAIL}@h/db", "PoolConfig"),
    "nothing but the password": (HEAD, "PoolConfig"),
    "nothing": (" ", "PoolConfig"),
    "an unescaped %": (f"postgresql://app:{HEAD}%zz{TAIL}@h/db", "PoolConfig"),
    "a space": (f"postgresql://app:{HEAD} {TAIL}@h/db", "PoolConfig"),
    "an unescaped /": (f"postgresql://app:{HEAD}/{TAIL}@h/db", "PoolConfig"),
    "an unescaped / after digits": (f"postgresql://{HEAD}:123/{TAIL}@h/db", "PoolConfig"),
    "an unescaped @": (f"postgresql://app:{HEAD}@{TAIL}@h/db", "PoolConfig"),
    "an unescaped ?": (f"postgresql://app:{HEAD}?{TAIL}@{DEAD}/db", "PoolUnreachable"),
    "an unescaped #": (f"postgresql://app:{HEAD}#{TAIL}@{DEAD}/db", "PoolUnreachable"),
    "several hosts": (f"postgresql://app:{HEAD}{TAIL}@{DEAD},127.0.0.1:2/db", "PoolUnreachable"),
    "a unix socket": (f"postgresql://app:{HEAD}{TAIL}@/db?host=/nowhere", "PoolUnreachable"),
    "keys and values": (f"host=127.0.0.1 port=1 user=app password={HEAD}{TAIL}", "PoolUnreachable"),
    **{
        f"the option {name}": (f"postgresql://app:{HEAD}{TAIL}@{DEAD}/db?{name}=/etc/{TAIL}", "PoolConfig")
        for name in ("sslkey", "sslcert", "sslrootcert", "sslcrl", "passfile", "service", "options")
    },
}


@pytest.mark.parametrize("case", POSTGRES)
async def test_a_postgres_url_is_nowhere_told(case: str, log: list[str]) -> None:
    url, reason = POSTGRES[case]
    async with Reconciling().running() as site:
        site.apply("job", {"postgres": url}, minWorkers=1)
        await until(lambda: site.condition("job", "PoolReachable")["reason"] == reason)
        told = site.condition("job", "PoolReachable")["message"]
        assert site.condition("job", "Stalled")["status"] == "True"
        await until(lambda: site.cluster.events)
        if case.startswith("the option"):
            assert case.removeprefix("the ") in told
        elif reason == "PoolConfig":
            assert "postgresql://USER:PASSWORD@HOST:PORT/DATABASE" in told
        check(site, log)


REDIS = {
    "an unescaped /": (f"redis://:{HEAD}/{TAIL}@{DEAD}/0", "LockConfig"),
    "an unescaped / after digits": (f"redis://{HEAD}:123/{TAIL}@{DEAD}/0", "LockConfig"),
    "an unescaped ?": (f"redis://:{HEAD}?{TAIL}@{DEAD}/0", "LockConfig"),
    "an unescaped #": (f"redis://:{HEAD}#{TAIL}@{DEAD}/0", "LockConfig"),
    "an unescaped [": (f"redis://:{HEAD}[{TAIL}@{DEAD}/0", "LockConfig"),
    "quotes": (f'"redis://:{HEAD}{TAIL}@{DEAD}/0"', "LockConfig"),
    "no colon": (f"redis//:{HEAD}{TAIL}@{DEAD}/0", "LockConfig"),
    "no scheme": (f"{HEAD}{TAIL}@{DEAD}", "LockConfig"),
    "nothing but the password": (HEAD, "LockConfig"),
    "another scheme": (f"http://:{HEAD}{TAIL}@{DEAD}", "LockConfig"),
    "a database that is no number": (f"redis://:{HEAD}{TAIL}@{DEAD}/{TAIL}", "LockConfig"),
    "an unknown option": (f"redis://:{HEAD}{TAIL}@{DEAD}/0?{TAIL}={HEAD}", "LockConfig"),
    "a port that is none": (f"redis://:{HEAD}@h:{TAIL}/0", "LockConfig"),
    "sentinel without a name": (f"redis+sentinel://:{HEAD}{TAIL}@{DEAD}", "LockConfig"),
    "cluster with a path": (f"redis+cluster://:{HEAD}{TAIL}@{DEAD}/{TAIL}", "LockConfig"),
    "an unescaped %": (f"redis://:{HEAD}%zz{TAIL}@{DEAD}/0", "LockUnreachable"),
    "an unescaped @": (f"redis://:{HEAD}@{TAIL}@{DEAD}/0", "LockUnreachable"),
    "a space": (f"redis://:{HEAD} {TAIL}@{DEAD}/0", "LockUnreachable"),
    "sentinel": (f"redis+sentinel://:{HEAD}@{DEAD},127.0.0.1:2/main?sentinel_password={TAIL}", "LockUnreachable"),
    "cluster": (f"redis+cluster://:{HEAD}{TAIL}@{DEAD},127.0.0.1:2", "LockUnreachable"),
    "a unix socket": (f"unix://:{HEAD}{TAIL}@/nowhere", "LockUnreachable"),
    **{
        f"the option {name}": (f"rediss://:{HEAD}{TAIL}@{DEAD}/0?{name}=/etc/{TAIL}", "LockConfig")
        for name in ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
    },
}


@pytest.mark.parametrize("case", REDIS)
async def test_a_redis_url_is_nowhere_told(case: str, log: list[str]) -> None:
    url, reason = REDIS[case]
    async with Reconciling().running() as site:
        site.apply("job", {"postgres": f"postgresql://{DEAD}", "redis": url})
        await until(lambda: site.condition("job", "LockReachable")["reason"] == reason)
        if case.startswith("the option"):
            assert case.removeprefix("the ") in site.condition("job", "LockReachable")["message"]
        await until(lambda: len({event["reason"] for event in site.cluster.events}) >= 2)
        check(site, log)


FATAL = message(b"E", b"SFATAL\0VFATAL\0C28P01\0Mleaked: the password is " + TAIL.encode() + b"\0\0")
BANNERS = {
    "SSH": (b"SSH-2.0-leaked\r\n", "Postgres at {}", "does not speak Redis"),
    "HTTP": (b"HTTP/1.1 400 leaked\r\n\r\n", "Postgres at {}", "does not speak Redis"),
    "an error of Redis": (b"-ERR leaked\r\n", "Postgres at {}", "the lock backend at {}"),
    "an error of Postgres": (FATAL, "Postgres at {}", "does not speak Redis"),
    "nothing": (b"", "it closed the connection", "the lock backend at {}"),
}


@pytest.mark.parametrize("case", BANNERS)
async def test_what_listens_there_is_not_repeated(case: str, log: list[str]) -> None:
    text, pool, lock = BANNERS[case]
    async with listening(banner(text)) as port, Reconciling().running() as site:
        at = f"127.0.0.1:{port}"
        site.apply("job", {"postgres": f"postgresql://app:{HEAD}@{at}/db", "redis": f"redis://:{HEAD}@{at}"})
        await until(lambda: site.condition("job", "PoolReachable")["status"] == "False")
        await until(lambda: site.condition("job", "LockReachable")["status"] == "False")
        await until(lambda: len(site.cluster.events) >= 2)
        assert pool.format(at) in site.condition("job", "PoolReachable")["message"]
        assert lock.format(at) in site.condition("job", "LockReachable")["message"]
        check(site, log)


async def test_the_lock_backend_postgres_is_checked_as_a_pool_is(log: list[str]) -> None:
    async with Reconciling().running() as site:
        for name, url in (("wrong", f"postgres//app:{HEAD}@h"), ("dead", f"postgresql://app:{TAIL}@{DEAD}/db")):
            lock = {"backend": "Postgres", "secretRef": {"name": name, "key": "postgres"}}
            site.apply(name, {"postgres": url}, lock=lock)
        await until(lambda: site.condition("wrong", "LockReachable")["reason"] == "LockConfig")
        await until(lambda: site.condition("dead", "LockReachable")["reason"] == "LockUnreachable")
        assert (
            f"the lock backend at {DEAD}: nothing listens there" in site.condition("dead", "LockReachable")["message"]
        )
        check(site, log)


async def test_a_worker_s_last_words_lose_the_password(fresh_database: str, log: list[str]) -> None:
    async with Reconciling().running() as site:
        url = psycopg.conninfo.make_conninfo(fresh_database, password=HEAD)
        site.apply("job", {"postgres": url}, minWorkers=1)
        ended = {"exitCode": 77, "message": f"it is wrong: {url}"}
        waiting = {"name": "worker", "lastState": {"terminated": ended}}
        pod = {"metadata": {"name": "one"}, "status": {"containerStatuses": [waiting]}}
        site.observed.pod_seen(("shop", "job"), pod)
        await until(lambda: site.condition("job", "Stalled")["reason"] == "WorkerFails")
        assert "password=…" in site.condition("job", "Stalled")["message"]
        check(site, log)


async def test_a_url_that_was_mended_heals(fresh_database: str) -> None:
    async with Reconciling().running() as site:
        site.apply("job", {"postgres": f'"{fresh_database}"'})
        await until(lambda: site.condition("job", "PoolReachable")["reason"] == "PoolConfig")
        site.apply("job", {"postgres": fresh_database})
        await until(lambda: site.condition("job", "PoolReachable")["reason"] == "Reachable")


def check(site: Reconciling, log: list[str]) -> None:
    """Nothing that anybody may read has a piece of the password, or what a server said."""
    objects = {path: raw for path, raw in site.cluster.objects.items() if "/secrets/" not in path}
    told = json.dumps([objects, site.cluster.events, log])
    assert not [piece for piece in SECRETS if piece in told]


def test_the_check_sees_what_it_is_for(log: list[str]) -> None:
    logging.getLogger("any").warning("leaked")
    with pytest.raises(AssertionError):
        check(Reconciling(), log)


async def test_nothing_is_raised_that_nobody_takes(log: list[str]) -> None:
    """An exception that is never retrieved would be logged by asyncio, with its words."""
    async with listening(banner(FATAL)) as port, Reconciling().running() as site:
        at = f"127.0.0.1:{port}"
        site.apply("job", {"postgres": f"postgresql://app:{HEAD}@{at}/db", "redis": f"redis://:{HEAD}@{at}"})
        await until(lambda: site.condition("job", "LockReachable")["status"] == "False")
    await asyncio.sleep(0)
    assert not [line for line in log if "never retrieved" in line]
