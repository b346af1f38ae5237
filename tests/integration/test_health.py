"""What a worker shows of itself over HTTP."""

from __future__ import annotations

import errno
import os
import socket
import threading
import urllib.error
import urllib.request
from contextlib import AbstractContextManager, ExitStack, suppress
from typing import Any

import pytest

from stripedjob.observe import health
from stripedjob.observe.health import CONNECTIONS_MAX, serving
from stripedjob.pool.errors import PoolUnreachableError
from stripedjob.pool.types import Batch, Failure, Fate, Lease, Recorded, Settlement, Spared, Tally, Then
from stripedjob.runtime.metrics import registry_of
from stripedjob.runtime.observe import STALLED_SECONDS, Observer

ALL = Recorded([], {})


def served(observer: Observer | None = None, port: int = 0, host: str = "") -> AbstractContextManager[int]:
    observer = observer or Observer("default/sync")
    return serving(observer, registry_of(observer), port, host)


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.mark.acceptance("A49")
def test_liveness_readiness_and_metrics() -> None:
    now = [0.0]
    observer = Observer("default/sync", clock=lambda: now[0])
    lease = Lease("a", 1, suspect=False, more=False, ids=(1, 2), attempts=(0, 0), crashes=(0, 0), payloads=("1", "2"))
    with served(observer, host="127.0.0.1") as port:
        assert get(port, "/readyz") == (503, "not connected to Postgres yet\n")
        observer.connected(1)
        assert get(port, "/readyz") == (200, "ok\n")
        observer.disconnected(PoolUnreachableError("it is away"))
        assert get(port, "/readyz") == (503, "it is away\n")
        observer.settled(
            Batch(1, 1, (Settlement(lease, Then.IDLE, (1, 2)),), Tally(claimed=1, lock_tries=1)), ALL, asked=0.0
        )
        observer.settled(Batch(1, 2, (Settlement(lease, Then.IDLE, (1, 2)),), Tally()), Recorded(["a"], {}), asked=0.0)
        metrics = get(port, "/metrics")[1]
        assert 'stripedjob_units_total{job_type="default/sync",outcome="done"} 2.0' in metrics
        assert 'stripedjob_stale_total{job_type="default/sync"} 1.0' in metrics
        assert get(port, "/livez")[0] == 200
        now[0] = STALLED_SECONDS + 1
        assert get(port, "/livez") == (503, "the main loop has stalled\n")
        assert get(port, "/nothing")[0] == 404


def test_what_was_recorded_is_counted_and_told_not_what_was_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    observer = Observer("default/sync")
    leases = [
        Lease(name, fence, suspect=False, more=False, ids=(fence,), attempts=(4,), crashes=(0,), payloads=("1",))
        for fence, name in enumerate(("dead", "spared", "lost"), 1)
    ]
    failures = [Failure(one.ids[0], Fate.DEAD, 5, 0, f"{one.resource}: away", trace="line 7") for one in leases]
    ended = tuple(Settlement(one, Then.IDLE, (), (failure,)) for one, failure in zip(leases, failures, strict=True))
    recorded = Recorded(["lost"], {2: Spared(Fate.DELAYED, 4, 10.0)})
    observer.settled(Batch(1, 1, ended, Tally()), recorded, asked=0.0)
    seen = [vars(record) | {"event": record.message} for record in caplog.records if hasattr(record, "unit")]
    assert [(one["event"], one["unit"], one["attempts"], one.get("spared")) for one in seen] == [
        ("unit dead", 1, 5, None),
        ("unit delayed", 2, 4, True),
        ("unit failed too late", 3, 5, None),
    ]
    assert [one["after_seconds"] for one in seen] == [0.0, 10.0, 0.0]
    assert {one["traceback"] for one in seen} == {"line 7"}
    counted = {
        outcome: registry_of(observer).get_sample_value(
            "stripedjob_units_total", {"job_type": "default/sync", "outcome": outcome}
        )
        for outcome in ("dead", "delayed")
    }
    assert counted == {"dead": 1.0, "delayed": 1.0}


def connect(port: int, host: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection((host, port), timeout=10)


def is_closed(sock: socket.socket) -> bool:
    """Wait until the other side has closed."""
    try:
        return sock.recv(1) == b""
    except ConnectionError:
        return True


def test_silent_connections_cost_no_thread_and_keep_nobody_out() -> None:
    before = threading.active_count()
    with served() as port, ExitStack() as stack:
        silent = [stack.enter_context(connect(port)) for _ in range(3 * CONNECTIONS_MAX)]
        assert get(port, "/livez") == (200, "ok\n")
        assert threading.active_count() <= before + 1
        assert all(is_closed(sock) for sock in silent[:CONNECTIONS_MAX])


def test_a_silent_connection_is_closed_after_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "REQUEST_SECONDS_MAX", 0.1)
    with served() as port, connect(port) as silent, connect(port) as slow:
        slow.sendall(b"GET /livez HT")
        assert is_closed(silent)
        assert is_closed(slow)


@pytest.mark.parametrize(
    "request_", [b"\r\n\r\n", b"x" * 100_000, b"GET /" + b"\xff" * 50 + b" HTTP/1.1\r\n\r\n", b"\0\0\0\r\n\r\n"]
)
def test_any_request_is_answered_or_refused(request_: bytes) -> None:
    with served() as port, connect(port) as client:
        with suppress(ConnectionError):
            client.sendall(request_)
            answer = client.recv(1000)
            assert answer == b"" or answer.startswith(b"HTTP/1.1 404 ")
        assert get(port, "/livez?verbose") == (200, "ok\n")


def test_head_is_answered_without_a_body() -> None:
    with served() as port, connect(port) as client:
        client.sendall(b"HEAD /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while part := client.recv(1000):
            answer += part
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"Content-Length: 3\r\nConnection: close\r\n\r\n")


def test_it_is_there_for_both_versions_of_ip() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    with served() as port:
        for host in ("127.0.0.1", "::1"):
            with connect(port, host) as client:
                client.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
                assert client.recv(1000).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("missing", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
def test_it_is_there_without_ipv6(monkeypatch: pytest.MonkeyPatch, missing: int) -> None:
    create = socket.create_server

    def refuse(address: tuple[str, int], **options: Any) -> socket.socket:
        if options.get("dualstack_ipv6"):
            raise OSError(missing, os.strerror(missing))
        return create(address, **options)

    monkeypatch.setattr(socket, "create_server", refuse)
    with served() as port:
        assert get(port, "/livez") == (200, "ok\n")


def test_a_port_that_is_taken_is_an_error() -> None:
    with served() as port, pytest.raises(OSError, match="in use"):
        served(port=port).__enter__()
