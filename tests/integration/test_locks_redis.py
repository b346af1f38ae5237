"""What is Redis' own: keys for outside parties, scripts, set-up mistakes, restarts, fail-over."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from tests.support.engines import RestartableValkey, running
from tests.support.lock_env import LockSite, redis_site
from tests.support.valkey import (
    PRIMARY,
    ClusterValkey,
    SentinelValkey,
    TcpValkey,
    free_port,
    make_certificate,
    tls_front,
)

from stripedjob.locks import LockBackend, LockConfigError, LockUnavailable
from stripedjob.locks import redis as redis_module

LONG_MS = 60_000
KEY = "{stripedjob:default/listing-sync}:r"
TRIES_MAX = 600


@pytest.fixture
def site(fresh_valkey: str) -> LockSite:
    return redis_site(fresh_valkey)


@pytest.fixture
def outside(fresh_valkey: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(fresh_valkey, decode_responses=True) as client:
        yield client


async def recovers(lock: LockBackend, token: str) -> None:
    """Renew until the server takes it again; in between only LockUnavailable is allowed."""
    for _ in range(TRIES_MAX):
        try:
            assert await lock.renew(["r"], [token], LONG_MS) == [True]
        except LockUnavailable:
            await asyncio.sleep(0.05)
        else:
            return
    pytest.fail("the lock did not come back")


async def test_the_key_is_the_documented_one(site: LockSite, outside: redis.Redis) -> None:
    async with site.lock() as lock:
        await lock.acquire(["r"], ["worker:7"], LONG_MS)
    assert outside.get(KEY) == "worker:7"
    assert 0 < outside.pttl(KEY) <= LONG_MS


async def test_an_outside_party_keeps_workers_off(site: LockSite, outside: redis.Redis) -> None:
    async with site.lock() as lock:
        outside.set(KEY, "app", px=LONG_MS, nx=True)
        assert LONG_MS / 2 < (await lock.acquire(["r"], ["w:1"], 1_000))[0] <= LONG_MS
        outside.set(KEY, "app")
        assert await lock.acquire(["r"], ["w:1"], 1_000) == [1_000]
        outside.delete(KEY)
        outside.hset(KEY, "held-by", "app")
        assert await lock.acquire(["r", "s"], ["w:1", "w:2"], 1_000) == [1_000, 0]
        assert await lock.release(["r", "s"], ["w:1", "w:2"]) == [False, True]


async def test_forgotten_scripts_are_sent_again(site: LockSite, outside: redis.Redis) -> None:
    async with site.lock() as lock:
        await lock.acquire(["r"], ["w:1"], LONG_MS)
        outside.script_flush()
        assert await lock.renew(["r"], ["w:1"], LONG_MS) == [True]
        outside.script_flush()
        assert await lock.release(["r"], ["w:1"]) == [True]


@pytest.mark.acceptance("A38")
async def test_locks_lost_to_flushall_are_taken_again_by_the_renewal(site: LockSite, outside: redis.Redis) -> None:
    async with site.lock() as ours, site.lock() as theirs:
        await ours.acquire(["r", "s"], ["w:1", "w:2"], LONG_MS)
        outside.flushall()
        assert await theirs.acquire(["s"], ["v:1"], LONG_MS) == [0]
        assert await ours.renew(["r", "s"], ["w:1", "w:2"], LONG_MS) == [True, False]


@pytest.mark.acceptance("A38")
async def test_a_killed_server_is_unavailable_and_then_used_again(
    restartable_valkey: RestartableValkey,
) -> None:
    async with redis_site(restartable_valkey.url).lock() as lock:
        await lock.acquire(["r"], ["w:1"], LONG_MS)
        restartable_valkey.kill()
        with pytest.raises(LockUnavailable, match="check that it runs"):
            await lock.renew(["r"], ["w:1"], LONG_MS)
        restartable_valkey.start()
        await recovers(lock, "w:1")
        assert await lock.release(["r"], ["w:1"]) == [True]


async def test_a_server_that_hangs_is_given_up(
    restartable_valkey: RestartableValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_module, "CALL_SECONDS_MAX", 0.2)
    async with redis_site(restartable_valkey.url).lock() as lock:
        await lock.ping()
        os.kill(restartable_valkey.pid, signal.SIGSTOP)
        with pytest.raises(LockUnavailable, match="did not answer"):
            await lock.acquire(["r"], ["w:1"], LONG_MS)
        os.kill(restartable_valkey.pid, signal.SIGCONT)
        await recovers(lock, "w:1")


async def test_nobody_listening_is_unavailable() -> None:
    for url in (f"redis://127.0.0.1:{free_port()}", "unix:///nowhere/valkey.sock"):
        async with redis_site(url).lock() as lock:
            with pytest.raises(LockUnavailable, match="check that it runs"):
                await lock.ping()
    async with redis_site(f"redis+sentinel://127.0.0.1:{free_port()}/main").lock() as lock:
        with pytest.raises(LockUnavailable, match="check that Sentinel runs"):
            await lock.ping()
    async with redis_site(f"redis+cluster://127.0.0.1:{free_port()}").lock() as lock:
        with pytest.raises(LockUnavailable, match="check that it runs"):
            await lock.ping()


async def test_wrong_credentials_and_rights_are_named(tmp_path: Path) -> None:
    server = TcpValkey(tmp_path)
    with running(server), server.client() as client:
        client.execute_command("ACL", "SETUSER", "narrow", "on", ">secret", "~*", "+get", "+ping")
        rights = ("+ping", "+@scripting", "+@keyspace", "+@read", "+@write")
        client.execute_command("ACL", "SETUSER", "enough", "on", ">secret", "~{stripedjob:*", *rights)
        client.config_set("requirepass", "right")
        for credentials in ("", ":wrong@", "nobody:right@"):
            async with redis_site(f"redis://{credentials}127.0.0.1:{server.port}").lock() as lock:
                with pytest.raises(LockConfigError, match="user name and the password") as caught:
                    await lock.ping()
                assert "right" not in str(caught.value)
        async with redis_site(f"redis://narrow:secret@127.0.0.1:{server.port}").lock() as lock:
            await lock.ping()
            with pytest.raises(LockConfigError, match="allow this user"):
                await lock.acquire(["r"], ["w:1"], LONG_MS)
        async with redis_site(f"redis://enough:secret@127.0.0.1:{server.port}").lock() as lock:
            await lock.ping()
            assert await lock.acquire(["r"], ["w:1"], LONG_MS) == [0]
            assert await lock.release(["r"], ["w:1"]) == [True]
            assert await lock.flush() == 0
        async with redis_site(f"redis://enough:secret@127.0.0.1:{server.port}").lock(prefix="no") as lock:
            with pytest.raises(LockConfigError, match="allow this user"):
                await lock.acquire(["r"], ["w:1"], LONG_MS)
        async with redis_site(f"redis://:right@127.0.0.1:{server.port}/15").lock() as lock:
            assert await lock.acquire(["r"], ["w:1"], LONG_MS) == [0]
        async with redis_site(f"redis://:right@127.0.0.1:{server.port}/99").lock() as lock:
            with pytest.raises(LockConfigError, match="database number"):
                await lock.ping()


async def test_tls_mistakes_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = TcpValkey(tmp_path)
    certificate, key = make_certificate(tmp_path)
    with running(server), tls_front(server.socket_path, certificate, key) as port:
        async with redis_site(f"rediss://127.0.0.1:{port}").lock() as lock:
            with pytest.raises(LockConfigError, match="ssl_ca_certs"):
                await lock.ping()
        monkeypatch.setattr(redis_module, "CALL_SECONDS_MAX", 0.5)  # Valkey waits for more of the hello
        for url in (f"rediss://127.0.0.1:{server.port}", f"redis://127.0.0.1:{port}"):
            async with redis_site(url).lock() as lock:
                with pytest.raises(LockUnavailable, match="both sides agree on TLS"):
                    await lock.ping()


async def test_a_cluster_and_a_single_server_are_told_apart(tmp_path: Path) -> None:
    cluster, single = ClusterValkey(tmp_path / "cluster"), TcpValkey(tmp_path / "single")
    with running(cluster, single):
        async with redis_site(f"redis+cluster://127.0.0.1:{single.port}").lock() as lock:
            with pytest.raises(LockConfigError, match=r"leave out \+cluster"):
                await lock.ping()
        async with redis_site(cluster.url).lock() as lock:
            resources = [f"r{number}" for number in range(50)]
            assert await lock.acquire(resources, ["w:1"] * 50, LONG_MS) == [0] * 50
            assert await lock.flush() == 50


@pytest.mark.acceptance("A38")
async def test_a_killed_cluster_node_is_used_again(tmp_path: Path) -> None:
    cluster = ClusterValkey(tmp_path)
    with running(cluster):
        async with redis_site(cluster.url).lock() as lock:
            await lock.acquire(["r"], ["w:1"], LONG_MS)
            cluster.kill()
            with pytest.raises(LockUnavailable):
                await lock.renew(["r"], ["w:1"], LONG_MS)
            cluster.start()
            await recovers(lock, "w:1")


async def test_a_replica_is_unavailable_and_used_once_it_is_promoted(tmp_path: Path) -> None:
    server = TcpValkey(tmp_path, "--replicaof", "127.0.0.1", str(free_port()))
    with running(server), server.client() as client:
        async with redis_site(server.url).lock() as lock:
            with pytest.raises(LockUnavailable, match="it is a replica"):
                await lock.acquire(["r"], ["w:1"], LONG_MS)
            client.replicaof("NO", "ONE")
            assert await lock.acquire(["r"], ["w:1"], LONG_MS) == [0]


async def test_a_loading_server_is_unavailable_until_it_has_loaded(tmp_path: Path) -> None:
    slow = ("--key-load-delay", "2000", "--loading-process-events-interval-bytes", "1024")
    server = TcpValkey(tmp_path, *slow)
    with running(server), server.client() as client:
        for number in range(500):
            client.set(f"key-{number}", "x" * 1_000)
        client.save()
        client.config_set("save", "")
        server.kill()
        server._spawn()
        async with redis_site(server.url).lock() as lock:
            for _ in range(TRIES_MAX):
                with pytest.raises(LockUnavailable) as caught:
                    await lock.acquire(["r"], ["w:1"], LONG_MS)
                if "loading" in str(caught.value):
                    break
            await recovers(lock, "w:1")


@pytest.mark.acceptance("A38")
async def test_sentinel_leads_to_the_new_primary_after_a_fail_over(tmp_path: Path) -> None:
    primary = TcpValkey(tmp_path / "primary")
    replica = TcpValkey(tmp_path / "replica", "--replicaof", "127.0.0.1", str(primary.port))
    sentinel = SentinelValkey(tmp_path / "sentinel", primary.port)
    with running(primary, replica, sentinel), sentinel.client() as watcher:
        for _ in range(TRIES_MAX):
            if watcher.execute_command("SENTINEL REPLICAS", PRIMARY):
                break
            await asyncio.sleep(0.05)
        async with redis_site(sentinel.url).lock() as lock:
            await lock.acquire(["r"], ["w:1"], LONG_MS)
            primary.kill()
            await recovers(lock, "w:1")
        with replica.client() as client:
            assert client.get(KEY) == b"w:1"


async def test_an_old_server_is_refused(site: LockSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_module, "VERSION_MIN", (99, 0))
    async with site.lock() as lock:
        with pytest.raises(LockConfigError, match=r"use Redis 99\.0 or later"):
            await lock.ping()
